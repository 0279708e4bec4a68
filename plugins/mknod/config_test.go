package mknod

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestParseDevices(t *testing.T) {
	for text, want := range map[string]devices{
		"c 1:3":          {unix.S_IFCHR, 1, 3, 3},
		"b 8:0":          {unix.S_IFBLK, 8, 0, 0},
		"c 0:0":          {unix.S_IFCHR, 0, 0, 0},
		"c 4095:1048575": {unix.S_IFCHR, 4095, 1048575, 1048575},
		"b 7:*":          {unix.S_IFBLK, 7, 0, 1048575},
		"b 7:0-63":       {unix.S_IFBLK, 7, 0, 63},
		"c 4:5-5":        {unix.S_IFCHR, 4, 5, 5},
	} {
		if got, err := parseDevices(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "c", "c 1", "c 1:", "c :3", "1:3", "p 1:3", "cc 1:3", "C 1:3", "c -1:3", "c 1:-3", "c 4096:0",
		"c 0:1048576", "c *:3", "c *:*", "c *", "c 1:**", "c 1:3-", "c 1:3-2", "c 1:3-*", "c 1:1-1048576", "c 1:1-2-3", "c 1-2:3",
		"c 99999999999:0", "c 1:3 x", "c 1:3x", "c 0x1:3", "c 1:3:4", "c  1:3", "c\n1:3", " c 1:3", "c +1:3"} {
		if got, err := parseDevices(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
	const empty = `device "b 7:63-0": 63, the first of the range, is above its last: want 0-63`
	if _, err := parseDevices("b 7:63-0"); err == nil || err.Error() != empty {
		t.Errorf("an empty range: %v, want %s", err, empty)
	}
}

// TestForms has messages that name the forms of a device.
func TestForms(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for _, text := range []string{"b *:*", "c *:3", "b 7", "c 1:3 rwm", "/dev/null"} {
		err := h.Refusal(sdk.Container{ID: "c"}, map[string]any{"devices": []string{text}})
		const forms = `want something like "c 1:3" (device nodes that may be made, as TYPE MAJOR:MINOR: TYPE is c or b, MAJOR a number, and ` +
			"MINOR a number, a range N-M or *)"
		if err == nil || !strings.Contains(err.Error(), forms) {
			t.Errorf("%q: %v, want %s", text, err, forms)
		}
	}
}

// FuzzParseDevices holds what was read against its own text.
func FuzzParseDevices(f *testing.F) {
	for _, d := range defaultDevices {
		f.Add(d)
	}
	for _, text := range []string{"b 8:16", "c 4096:0", "c 1:3x", "", "c 01:3", "b 7:*", "b 7:1-2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDevices(text)
		if err != nil {
			return
		}
		letter := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[d.kind]
		again, err := parseDevices(fmt.Sprintf("%s %d:%d-%d", letter, d.major, d.first, d.last))
		if err != nil || again != d || d.major >= 1<<12 || d.last >= 1<<20 || d.first > d.last {
			t.Errorf("%q is %v, which is read as %v, %v", text, d, again, err)
		}
	})
}

func TestPolicy(t *testing.T) {
	p, err := config{Devices: []string{"c 1:3", "b 7:0-2", "c 0:*"}}.policy(false)
	if err != nil {
		t.Fatal(err)
	}
	for d, want := range map[device]bool{
		{unix.S_IFCHR, 1, 3}: true,
		{unix.S_IFBLK, 7, 0}: true,
		{unix.S_IFBLK, 7, 2}: true,
		{unix.S_IFBLK, 7, 3}: false,
		{unix.S_IFCHR, 0, 9}: true,
		{unix.S_IFBLK, 1, 3}: false,
		{unix.S_IFCHR, 7, 0}: false,
		{unix.S_IFCHR, 3, 1}: false,
		whiteout:             false,
		{unix.S_IFBLK, 0, 0}: false,
		{0, 1, 3}:            false,
	} {
		if (p.refuses(d) == "") != want {
			t.Errorf("%v: %v, want %v", d, !want, want)
		}
	}
}

// TestDefaults are those of Incus, the terminals' multiplexer and the block device without a driver.
func TestDefaults(t *testing.T) {
	got, err := config{Devices: defaultDevices}.policy(false)
	if err != nil {
		t.Fatal(err)
	}
	want := []devices{{unix.S_IFBLK, 0, 0, 0}}
	for _, n := range [][2]uint32{{0, 0}, {5, 1}, {5, 2}, {1, 7}, {1, 3}, {1, 8}, {5, 0}, {1, 9}, {1, 5}} {
		want = append(want, devices{unix.S_IFCHR, n[0], n[1], n[1]})
	}
	if !slices.Equal(got.listed, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestDevicesOfTheHost are made only where a device cgroup keeps the container from opening them, or by a setting.
func TestDevicesOfTheHost(t *testing.T) {
	all := []string{"b 0:0", "b 7:*", "b 8:0", "c 0:*", "c 1:*", "c 5:*", "c 10:*"}
	for _, test := range []struct{ required, denied, made bool }{
		{true, false, false}, {true, true, true}, {false, false, true}, {false, true, true},
	} {
		p, err := config{Devices: all, RequireCgroup: test.required}.policy(test.denied)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []device{
			{unix.S_IFCHR, 5, 1}, {unix.S_IFCHR, 5, 3}, {unix.S_IFCHR, 1, 1}, {unix.S_IFCHR, 1, 2}, {unix.S_IFCHR, 1, 4}, {unix.S_IFCHR, 1, 11},
			{unix.S_IFCHR, 10, 229}, {unix.S_IFBLK, 7, 3}, {unix.S_IFBLK, 8, 0},
		} {
			if made := p.refuses(d) == ""; made != test.made || !made && p.refuses(d) != noDeviceCgroup {
				t.Errorf("%v, %+v: %q", d, test, p.refuses(d))
			}
		}
		for _, d := range []device{
			{unix.S_IFCHR, 1, 3}, {unix.S_IFCHR, 1, 5}, {unix.S_IFCHR, 1, 7}, {unix.S_IFCHR, 1, 8}, {unix.S_IFCHR, 1, 9},
			{unix.S_IFCHR, 5, 0}, {unix.S_IFCHR, 5, 2}, {unix.S_IFCHR, 0, 1}, {unix.S_IFBLK, 0, 0},
		} {
			if p.refuses(d) != "" {
				t.Errorf("%v, %+v: %q", d, test, p.refuses(d))
			}
		}
	}
}

func TestRefusedSettings(t *testing.T) {
	h := sdktest.Serve(t, handler{})
	for name, settings := range map[string]map[string]any{
		"unknown key":  {"device": []string{"c 1:3"}},
		"no list":      {"devices": "c 1:3"},
		"type":         {"devices": []string{"c 1:3", "p 1:3"}},
		"no minor":     {"devices": []string{"c 1"}},
		"large number": {"devices": []string{"c 4096:0"}},
		"large minor":  {"devices": []string{"b 1:1048576"}},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := h.Refusal(sdk.Container{ID: "c"}, map[string]any{"devices": []string{}}); err != nil {
		t.Errorf("an empty list: %v", err)
	}
}

// TestDecisions need no caller: the kernel or a fault decides.
func TestDecisions(t *testing.T) {
	s := sdktest.Serve(t, handler{}).Attach(sdk.Container{ID: "c"}, nil)
	listed, other := uint64(unix.Mkdev(1, 3)), uint64(unix.Mkdev(1, 1))
	// Both take the path that was read, or the fault.
	mknod := func(mode, dev uint64, path any) sdktest.Call {
		return sdktest.Call{Syscall: "mknod", Args: [6]uint64{0, mode, dev}, Reads: map[int]any{0: path}}
	}
	mknodat := func(mode, dev uint64, path any) sdktest.Call {
		return sdktest.Call{Syscall: "mknodat", Args: [6]uint64{0, 0, mode, dev}, Reads: map[int]any{1: path}}
	}
	for name, test := range map[string]struct {
		call sdktest.Call
		want string
	}{
		"unlisted":             {mknod(unix.S_IFCHR, other, "/x"), "next"},
		"whiteout":             {mknod(unix.S_IFCHR, 0, "/x"), "next"},
		"block":                {mknodat(unix.S_IFBLK, listed, "/x"), "next"},
		"unlisted and a fault": {mknod(unix.S_IFCHR, other, unix.EFAULT), "next"},
		"fault":                {mknod(unix.S_IFCHR, listed, unix.EFAULT), "errno EFAULT (14)"},
		"too long":             {mknodat(unix.S_IFCHR, listed, unix.ENAMETOOLONG), "errno ENAMETOOLONG (36)"},
		"empty":                {mknodat(unix.S_IFCHR, listed, ""), "errno ENOENT (2)"},
		"garbage above":        {mknod(unix.S_IFCHR|0xdead0000, listed|0xdead<<32, ""), "errno ENOENT (2)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.Handle(t.Context(), test.call).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
