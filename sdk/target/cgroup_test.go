package target

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseLimits(t *testing.T) {
	limits := parseLimits("Limit                     Soft Limit           Hard Limit           Units\n" +
		"Max open files            1024                 4096                 files\n" +
		"Max cpu time              unlimited            unlimited            seconds\n" +
		"Max processes             x                    1\n")
	if len(limits) != 2 || limits[unix.RLIMIT_NOFILE] != (unix.Rlimit{Cur: 1024, Max: 4096}) ||
		limits[unix.RLIMIT_CPU].Max != unix.RLIM_INFINITY {
		t.Errorf("got %v", limits)
	}
}
