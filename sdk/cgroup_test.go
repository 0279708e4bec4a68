package sdk

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestCgroupFolders finds this process in its own cgroups.
func TestCgroupFolders(t *testing.T) {
	own, err := ReadCgroups("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	own["nosuch"] = "/"
	folders, err := Container{Cgroups: own}.CgroupFolders()
	if err != nil {
		t.Fatal(err)
	}
	for hierarchy, folder := range folders {
		text, err := os.ReadFile(filepath.Join(folder.Path, "cgroup.procs"))
		if err != nil || !slices.Contains(strings.Fields(string(text)), strconv.Itoa(os.Getpid())) {
			t.Errorf("hierarchy %q: this process is not in %+v: %v", hierarchy, folder, err)
		}
		if above := folder.Upwards(); above[0] != folder.Path || above[len(above)-1] != folder.Top {
			t.Errorf("above %+v are %q", folder, above)
		}
	}
	if _, ok := folders["nosuch"]; ok {
		t.Error("a hierarchy that does not exist has a folder")
	}
}

func TestCgroupHierarchy(t *testing.T) {
	c := Container{Cgroups: map[string]string{"": "/u", "memory,hugetlb": "/m"}}
	for controller, want := range map[string]string{"memory": "memory,hugetlb", "pids": ""} {
		if got := c.CgroupHierarchy(controller); got != want {
			t.Errorf("%s is in %q, want %q", controller, got, want)
		}
	}
}
