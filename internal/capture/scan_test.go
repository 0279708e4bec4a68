package capture

import (
	"slices"
	"testing"
)

func FuzzIDsOf(f *testing.F) {
	f.Add([]byte("Name:\tNSpid:\nPid:\t7\nNSpid:\t7\t1\nVmPeak:\t1 kB\n"))
	f.Add([]byte("NSpid:\t99999999999999999999\n"))
	f.Add([]byte("NSpid:"))
	f.Fuzz(func(t *testing.T, status []byte) {
		for _, id := range idsOf(status, "NSpid:") {
			if id < 0 {
				t.Errorf("%q has id %d", status, id)
			}
		}
	})
}

func TestIDsOf(t *testing.T) {
	for status, want := range map[string][]int{
		"Name:\tsh\nNSpid:\t70\t7\t1\nKthread:\t0\n": {70, 7, 1},
		"NSpid:\t70\n":            {70},
		"Name:\tNSpid:\t1\n":      nil,
		"NStgid:\t1\n":            nil,
		"NSpid:\t70\tx\n":         nil,
		"NSpid:\t70\t-1\n":        nil,
		"":                        nil,
		"Name:\tx\\nNSpid:\t3\n":  nil,
		"NSpid:\t70 7\nNSpid:\t1": {70, 7},
	} {
		if got := idsOf([]byte(status), "NSpid:"); !slices.Equal(got, want) {
			t.Errorf("%q has ids %v, want %v", status, got, want)
		}
	}
}
