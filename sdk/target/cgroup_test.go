package target

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestHierarchyWanted(t *testing.T) {
	for hierarchy, want := range map[string]bool{"": true, "devices": true, "cpu,memory": true, "cpu": false, "name=systemd": false} {
		if hierarchyWanted(hierarchy, []string{"devices", "memory"}) != want || !hierarchyWanted(hierarchy, nil) {
			t.Errorf("hierarchy %q: want %v", hierarchy, want)
		}
	}
}

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
