package container

import (
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
)

func TestLXCName(t *testing.T) {
	for name, test := range map[string]struct {
		cgroups map[string]string
		want    string
	}{
		"version 2":              {map[string]string{"": "/lxc.monitor.c1"}, "c1"},
		"hybrid":                 {map[string]string{"": "/", "memory": "/lxc.monitor.c1", "name=systemd": "/lxc.monitor.c1"}, "c1"},
		"below a slice":          {map[string]string{"": "/user.slice/user-1000.slice/lxc.monitor.c1"}, "c1"},
		"dots":                   {map[string]string{"": "/lxc.monitor.a.b-1"}, "a.b-1"},
		"no UTF-8":               {map[string]string{"": "/lxc.monitor.a\xff"}, "a?"},
		"a container's":          {map[string]string{"": "/lxc.payload.c1"}, ""},
		"in a container":         {map[string]string{"": "/lxc.monitor.c1/lxc.payload.c2"}, ""},
		"no name":                {map[string]string{"": "/lxc.monitor."}, ""},
		"lxc.cgroup.dir.monitor": {map[string]string{"": "/mine/c1"}, ""},
		"nothing":                {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lxcName(test.cgroups); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	for _, pid := range []int{os.Getpid(), 1 << 30} {
		if got := LXCName(pid); got != "" {
			t.Errorf("process %d: %q", pid, got)
		}
	}
}

func TestLXCRoot(t *testing.T) {
	for path, want := range map[string]string{
		"/lxc.payload.c1":                       "/lxc.payload.c1",
		"/lxc.payload.c1/init.scope":            "/lxc.payload.c1",
		"/a/lxc.payload.c1/lxc.payload.inner/b": "/a/lxc.payload.c1",
		"/a/b":                                  "/a/b",
		"/":                                     "/",
		"/lxc.payload":                          "/lxc.payload",
		"":                                      "",
	} {
		if got := lxcRoot(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

// A container that nobody names is known by its first process.
func TestUnnamed(t *testing.T) {
	caller := testcaller.Start(t, 0)
	key := fmt.Sprintf("pid-%d", caller.PID)
	for _, test := range []struct {
		claim   Claim
		id, key string
	}{
		{Claim{}, key, key},
		{Claim{Name: "c1"}, "c1", key},
		{Claim{ID: "id", Name: "c1"}, "id", "id"},
	} {
		test.claim.PID = caller.PID
		if c := inspectContainer(t, test.claim); c.ID != test.id || c.Key() != test.key {
			t.Errorf("%+v: %q, %q", test.claim, c.ID, c.Key())
		}
	}
}
