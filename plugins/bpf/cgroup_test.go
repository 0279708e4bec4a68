package main

import "testing"

func TestFindHierarchy(t *testing.T) {
	const v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu\n"
	for name, c := range map[string]struct{ mountinfo, want string }{
		"unified":     {"31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "/sys/fs/cgroup"},
		"hybrid":      {v1 + "41 31 0:38 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		"a space":     {"31 23 0:28 / /cg\\040v2 rw - cgroup2 cgroup2 rw\n", "/cg v2"},
		"version 1":   {v1, ""},
		"a part":      {"50 1 0:38 /a /cg rw - cgroup2 cgroup2 rw\n", ""},
		"above":       {"50 1 0:38 /../.. /cg rw - cgroup2 cgroup2 rw\n", ""},
		"after":       {"50 1 0:38 /a /cg rw - cgroup2 cgroup2 rw\n51 1 0:38 / /whole rw - cgroup2 none rw\n", "/whole"},
		"another's":   {"50 1 0:38 / /cgroup2 rw - tmpfs cgroup2 rw\n", ""},
		"not a mount": {"cgroup2 - cgroup2\n", ""},
		"empty":       {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := findHierarchy(c.mountinfo)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("got %q, %v; want %q", got, ok, c.want)
			}
		})
	}
}

func TestOpenCgroupRefuses(t *testing.T) {
	hierarchy(t)
	for _, path := range []string{"", "/", "/..", "/../a", "/a/../..", "/no such cgroup"} {
		if own, err := openCgroup(path); err == nil {
			own.close()
			t.Errorf("%q is a container's own", path)
		}
	}
}
