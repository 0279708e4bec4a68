package bpf

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk"
)

func TestOpenCgroupRefuses(t *testing.T) {
	hierarchy(t)
	for _, path := range []string{"", "/", "/..", "/../a", "/a/../..", "/no such cgroup"} {
		if own, err := openCgroup(inCgroup(path)); err == nil {
			own.close()
			t.Errorf("%q is a container's own", path)
		}
	}
}

// TestShared has a cgroup that is not the container's alone.
func TestShared(t *testing.T) {
	tr := newTree(t)
	container := inCgroup(strings.TrimPrefix(tr.top, hierarchy(t)) + "/own")
	own, err := openCgroup(container)
	if err != nil {
		t.Fatalf("an empty cgroup: %v", err)
	}
	own.close()
	container.CgroupShared = "process 1 of the host is in it"
	if own, err := openCgroup(container); err == nil {
		own.close()
		t.Error("a cgroup with a process of the host is the container's own")
	}
}

func TestBelowRoot(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		folder sdk.CgroupFolder
		want   bool
	}{
		"the whole":         {"/a/b", sdk.CgroupFolder{Path: "/cg/a/b", Top: "/cg"}, true},
		"a part":            {"/a/b", sdk.CgroupFolder{Path: "/cg/b", Top: "/cg"}, false},
		"the part itself":   {"/a/b", sdk.CgroupFolder{Path: "/cg", Top: "/cg"}, false},
		"above a namespace": {"/../../a", sdk.CgroupFolder{Path: "/cg/a", Top: "/cg"}, false},
	} {
		if got := belowRoot(c.folder, c.path); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
