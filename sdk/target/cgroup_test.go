package target

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const cgroupMounts = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
33 31 0:36 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
34 31 0:37 / /sys/fs/cgroup/cpu\040x rw shared:3 - cgroup cgroup rw,cpu,cpuacct
35 31 0:38 /part /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`

func TestCgroupDir(t *testing.T) {
	for place, want := range map[string]string{
		"devices /a/b":  "/sys/fs/cgroup/devices/a/b",
		"devices /":     "/sys/fs/cgroup/devices",
		"cpu,cpuacct /": "/sys/fs/cgroup/cpu x",
		" /part/a":      "/sys/fs/cgroup/unified/a",
		" /part":        "/sys/fs/cgroup/unified",
		" /partial":     "",
		" /other":       "",
		"devices /../x": "",
		"memory /a":     "",
	} {
		hierarchy, path, _ := strings.Cut(place, " ")
		if got, ok := cgroupDir(cgroupMounts, hierarchy, path); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v; want %q", place, got, ok, want)
		}
	}
}

func TestHierarchyWanted(t *testing.T) {
	for hierarchy, want := range map[string]bool{"": true, "devices": true, "cpu,memory": true, "cpu": false, "name=systemd": false} {
		if hierarchyWanted(hierarchy, []string{"devices", "memory"}) != want || !hierarchyWanted(hierarchy, nil) {
			t.Errorf("hierarchy %q: want %v", hierarchy, want)
		}
	}
}

func TestParseLimits(t *testing.T) {
	limits := parseLimits("Limit                     Soft Limit           Hard Limit           Units\n" +
		"Max open files            1024                 4096                 files\nMax cpu time              unlimited            unlimited            seconds\nMax processes             x                    1\n")
	if len(limits) != 2 || limits[unix.RLIMIT_NOFILE] != (unix.Rlimit{Cur: 1024, Max: 4096}) || limits[unix.RLIMIT_CPU].Max != unix.RLIM_INFINITY {
		t.Errorf("got %v", limits)
	}
}

// FuzzCgroupDir never leads out of the hierarchy's mount.
func FuzzCgroupDir(f *testing.F) {
	for _, path := range []string{"/", "/a", "/part/../../etc", "/part/..", "", "part", "/part//x"} {
		f.Add("", path)
		f.Add("devices", path)
	}
	f.Fuzz(func(t *testing.T, hierarchy, path string) {
		if dir, ok := cgroupDir(cgroupMounts, hierarchy, path); ok && !strings.HasPrefix(dir, "/sys/fs/cgroup/") {
			t.Errorf("cgroup %q of %q is %q", path, hierarchy, dir)
		}
	})
}
