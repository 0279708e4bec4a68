package filter

import (
	"testing"
)

// The numbers that this package adds must be libseccomp's, where that knows them by now.
func TestRecentCalls(t *testing.T) {
	for name, nr := range recent {
		for _, a := range architectures {
			if n, ok := a.number(name); !ok || n != nr|a.flag {
				t.Errorf("%s on %v: %d, %v: want %d", name, a.scmp, n, ok, nr|a.flag)
			}
		}
	}
}
