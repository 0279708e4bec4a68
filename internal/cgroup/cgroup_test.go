package cgroup

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/mountinfo"
)

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want map[string]string // nil: an error
	}{
		"version 2": {"0::/user.slice\n", map[string]string{"": "/user.slice"}},
		"hybrid": {"4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/\n",
			map[string]string{"cpu,cpuacct": "/a", "name=systemd": "/b", "": "/"}},
		"colon in a path":  {"0::/a:b:c\n", map[string]string{"": "/a:b:c"}},
		"spaces in a path": {"0::/a b \n", map[string]string{"": "/a b "}},
		"removed":          {"0::/a (deleted)\n", map[string]string{"": "/a (deleted)"}},
		"none":             {"", map[string]string{}},
		"two fields":       {"0:/a\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(test.text)
			if (err != nil) != (test.want == nil) || !maps.Equal(got, test.want) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestReadLong has a path as long as the kernel allows.
func TestReadLong(t *testing.T) {
	path := "/" + strings.Repeat("x", 100_000)
	file := filepath.Join(t.TempDir(), "cgroup")
	if err := os.WriteFile(file, []byte("0::"+path+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(file); err != nil || got[""] != path {
		t.Errorf("%d bytes, %v", len(got[""]), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("4:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/\n")
	f.Add("0:\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parse(text)
		if err != nil {
			return
		}
		for hierarchy, path := range got {
			if !strings.Contains(text, ":"+hierarchy+":"+path) {
				t.Errorf("%q is not in %q", hierarchy+":"+path, text)
			}
		}
	})
}

// TestOwnFolders finds this process in its own cgroups.
func TestOwnFolders(t *testing.T) {
	folders, err := OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	for hierarchy, folder := range folders {
		text, err := os.ReadFile(filepath.Join(folder.Path, "cgroup.procs"))
		if err != nil || !slices.Contains(strings.Fields(string(text)), strconv.Itoa(os.Getpid())) {
			t.Errorf("hierarchy %q: this process is not in %+v: %v", hierarchy, folder, err)
		}
	}
}

func TestHierarchy(t *testing.T) {
	v1 := map[string]string{"": "/u", "cpu,cpuacct": "/c", "memory,hugetlb": "/m"}
	for controller, want := range map[string]string{"memory": "memory,hugetlb", "cpuacct": "cpu,cpuacct", "pids": "", "mem": ""} {
		if got := Hierarchy(v1, controller); got != want {
			t.Errorf("%s of %v: %q", controller, v1, got)
		}
	}
}

func v1(root, point string, options ...string) mountinfo.Mount {
	return mountinfo.Mount{Root: root, Point: point, Type: "cgroup", Options: append([]string{"rw"}, options...)}
}

func v2(root, point string) mountinfo.Mount {
	return mountinfo.Mount{Root: root, Point: point, Type: "cgroup2", Options: []string{"rw", "nsdelegate"}}
}

var hybrid = []mountinfo.Mount{
	{Root: "/", Point: "/sys/fs/cgroup", Type: "tmpfs", Options: []string{"rw", "memory"}},
	v1("/", "/sys/fs/cgroup/cpu,cpuacct", "cpu", "cpuacct"),
	v1("/", "/sys/fs/cgroup/memory", "memory"),
	v1("/", "/sys/fs/cgroup/systemd", "xattr", "name=systemd"),
	v2("/", "/sys/fs/cgroup/unified"),
}

func TestFind(t *testing.T) {
	part := []mountinfo.Mount{v2("/outer/daemon", "/cg v2")}
	above := []mountinfo.Mount{v2("/../..", "/sys/fs/cgroup")}
	for name, c := range map[string]struct {
		mounts          []mountinfo.Mount
		hierarchy, path string
		want, top       string // "" if not found
	}{
		"version 1":                    {hybrid, "memory", "/a/b", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory"},
		"version 1, the top":           {hybrid, "memory", "/", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory"},
		"mounted together":             {hybrid, "cpu,cpuacct", "/a", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"},
		"in another order":             {hybrid, "cpuacct,cpu", "/a", "/sys/fs/cgroup/cpu,cpuacct/a", "/sys/fs/cgroup/cpu,cpuacct"},
		"named":                        {hybrid, "name=systemd", "/a", "/sys/fs/cgroup/systemd/a", "/sys/fs/cgroup/systemd"},
		"version 2":                    {hybrid, "", "/a", "/sys/fs/cgroup/unified/a", "/sys/fs/cgroup/unified"},
		"not mounted":                  {hybrid, "pids", "/a", "", ""},
		"one of two":                   {hybrid, "memory,hugetlb", "/a", "", ""},
		"no path":                      {hybrid, "memory", "", "", ""},
		"relative path":                {hybrid, "memory", "a/b", "", ""},
		"outside the cgroup namespace": {hybrid, "memory", "/../../a", "", ""},
		"dots in the middle":           {hybrid, "memory", "/a/../../b", "", ""},
		"a name that begins with dots": {hybrid, "memory", "/..a", "/sys/fs/cgroup/memory/..a", "/sys/fs/cgroup/memory"},
		"a part is mounted":            {part, "", "/outer/daemon/c1", "/cg v2/c1", "/cg v2"},
		"the part itself":              {part, "", "/outer/daemon", "/cg v2", "/cg v2"},
		"beside the part":              {part, "", "/outer/daemon2/c1", "", ""},
		"above the part":               {part, "", "/outer", "", ""},
		"the whole instead of a part": {slices.Concat(part, hybrid), "", "/outer/daemon/c1",
			"/sys/fs/cgroup/unified/outer/daemon/c1", "/sys/fs/cgroup/unified"},
		"mounted from above a namespace": {above, "", "/../../a", "/sys/fs/cgroup/a", "/sys/fs/cgroup"},
		"farther above":                  {above, "", "/../../../a", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := find(c.mounts, c.hierarchy, c.path)
			if ok != (c.want != "") || got.Path != c.want || got.Top != c.top {
				t.Errorf("got %+v, %v; want %q below %q", got, ok, c.want, c.top)
			}
		})
	}
}

func TestUpwards(t *testing.T) {
	got := Folder{Path: "/cg/a/b", Top: "/cg"}.Upwards()
	if want := []string{"/cg/a/b", "/cg/a", "/cg"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Folder{Path: "/cg", Top: "/cg"}).Upwards(); !slices.Equal(got, []string{"/cg"}) {
		t.Errorf("the top: got %q", got)
	}
}

// FuzzFind never leads out of the hierarchy's mount, whatever the path.
func FuzzFind(f *testing.F) {
	for _, path := range []string{"/", "/a", "/part/../../etc", "/part/..", "", "part", "/part//x"} {
		f.Add("", path, "/", "/cg")
		f.Add("memory", path, "/part", "/cg/memory")
	}
	f.Add("", "/../../a", "/../..", "/cg")
	f.Fuzz(func(t *testing.T, hierarchy, path, root, point string) {
		point = "/" + point // the kernel gives no other
		folder, ok := find([]mountinfo.Mount{v1(root, point, "memory"), v2(root, point)}, hierarchy, path)
		if !ok {
			return
		}
		if folder.Top != filepath.Clean(point) || !mountinfo.Within(folder.Path, folder.Top) {
			t.Errorf("%q leaves %q", folder.Path, folder.Top)
		}
		if folders := folder.Upwards(); folders[len(folders)-1] != folder.Top {
			t.Errorf("%q does not end at %q", folders, folder.Top)
		}
	})
}
