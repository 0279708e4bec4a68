package main

import (
	"slices"
	"testing"
)

const hybridMountinfo = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
`

func TestFindDir(t *testing.T) {
	bind := "50 1 0:38 /outer/daemon /cg\\040v2 rw - cgroup2 cgroup2 rw\n"
	above := "50 1 0:38 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	for name, c := range map[string]struct {
		mountinfo, controllers, path string
		want, top                    string // "" if not found
	}{
		"version 1":                      {hybridMountinfo, "memory", "/a/b", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory"},
		"version 1, the top":             {hybridMountinfo, "memory", "/", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"},
		"mounted together":               {hybridMountinfo, "cpu,cpuacct", "/a", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"},
		"in another order":               {hybridMountinfo, "cpuacct,cpu", "/a", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"},
		"named":                          {hybridMountinfo, "name=systemd", "/a", "/sys/fs/cgroup/systemd/a", "/sys/fs/cgroup/systemd"},
		"version 2":                      {hybridMountinfo, "", "/a", "/sys/fs/cgroup/unified/a", "/sys/fs/cgroup/unified"},
		"not mounted":                    {hybridMountinfo, "pids", "/a", "", ""},
		"no path":                        {hybridMountinfo, "memory", "", "", ""},
		"relative path":                  {hybridMountinfo, "memory", "a/b", "", ""},
		"outside the cgroup namespace":   {hybridMountinfo, "memory", "/../../a", "", ""},
		"dots in the middle":             {hybridMountinfo, "memory", "/a/../../b", "", ""},
		"a name that begins with dots":   {hybridMountinfo, "memory", "/..a", "/sys/fs/cgroup/memory/..a", "/sys/fs/cgroup/memory"},
		"a part is mounted":              {bind, "", "/outer/daemon/c1", "/cg v2/c1", "/cg v2"},
		"the part itself":                {bind, "", "/outer/daemon", "/cg v2", "/cg v2"},
		"beside the part":                {bind, "", "/outer/daemon2/c1", "", ""},
		"above the part":                 {bind, "", "/outer", "", ""},
		"the whole rather than a part":   {bind + hybridMountinfo, "", "/outer/daemon/c1", "/sys/fs/cgroup/unified/outer/daemon/c1", "/sys/fs/cgroup/unified"},
		"mounted from above a namespace": {above, "", "/../../a", "/sys/fs/cgroup/a", "/sys/fs/cgroup"},
		"farther above":                  {above, "", "/../../../a", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := findDir(parseMounts(c.mountinfo), c.controllers, c.path)
			if ok != (c.want != "") || got.path != c.want || got.top != c.top {
				t.Errorf("got %+v, %v; want %q below %q", got, ok, c.want, c.top)
			}
		})
	}
}

func TestUpwards(t *testing.T) {
	got := cgroupDir{path: "/cg/a/b", top: "/cg"}.upwards()
	if want := []string{"/cg/a/b", "/cg/a", "/cg"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (cgroupDir{path: "/cg", top: "/cg"}).upwards(); !slices.Equal(got, []string{"/cg"}) {
		t.Errorf("the top: got %q", got)
	}
}

func TestHierarchyOf(t *testing.T) {
	v1 := map[string]string{"": "/u", "cpu,cpuacct": "/c", "memory,hugetlb": "/m"}
	if got := hierarchyOf(v1, "memory"); got != "memory,hugetlb" {
		t.Errorf("memory of %v: %q", v1, got)
	}
	if got := hierarchyOf(v1, "pids"); got != "" {
		t.Errorf("pids of %v: %q", v1, got)
	}
}

func FuzzCgroupPath(f *testing.F) {
	f.Add(hybridMountinfo, "/a/b")
	f.Add("50 1 0:38 /../.. /cg rw - cgroup2 cgroup2 rw\n", "/../../a")
	f.Add("50 1 0:38 /\\134 / rw - cgroup2 cgroup2 rw\n", "/\\/x")
	f.Fuzz(func(t *testing.T, mountinfo, path string) {
		for _, controllers := range []string{"", "memory"} {
			dir, ok := findDir(parseMounts(mountinfo), controllers, path)
			if !ok {
				continue
			}
			if dir.path != dir.top && !within(dir.path, dir.top) && dir.top[0] == '/' {
				t.Errorf("%q leaves %q", dir.path, dir.top)
			}
			if folders := dir.upwards(); folders[len(folders)-1] != dir.top {
				t.Errorf("%q does not end at %q", folders, dir.top)
			}
		}
	})
}
