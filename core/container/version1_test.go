package container

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestConfirmOne(t *testing.T) {
	const l = "/lxc.payload.l"
	for name, test := range map[string]struct {
		claim         Claim
		process, peer string
		want          string // "": not confirmed
	}{
		"lxc":                                 {Claim{Runtime: "lxc"}, l, "/lxc.monitor.l", l},
		"lxc, below":                          {Claim{Runtime: "lxc"}, l + "/init.scope", "/lxc.monitor.l", l},
		"lxc, a cgroup like another's below":  {Claim{Runtime: "lxc"}, l + "/lxc.payload.d", "/lxc.monitor.l", l},
		"lxc, another's":                      {Claim{Runtime: "lxc"}, "/lxc.payload.d", "/lxc.monitor.l", ""},
		"lxc, below another's":                {Claim{Runtime: "lxc"}, "/lxc.payload.d/lxc.payload.l", "/lxc.monitor.l", ""},
		"lxc, another's whose name is longer": {Claim{Runtime: "lxc"}, "/lxc.payload.l-1", "/lxc.monitor.l", ""},
		"lxc, a second of the name":           {Claim{Runtime: "lxc"}, "/lxc.payload.l-1", "/lxc.monitor.l-1", "/lxc.payload.l-1"},
		"lxc, only the monitor is a second":   {Claim{Runtime: "lxc"}, l, "/lxc.monitor.l-1", ""},
		"lxc.cgroup.dir":                      {Claim{Runtime: "lxc"}, "/a/b/lxc.payload.l", "/a/b/lxc.monitor.l", "/a/b/lxc.payload.l"},
		"lxc, another folder":                 {Claim{Runtime: "lxc"}, l, "/a/lxc.monitor.l", ""},
		"lxc, outside the namespace":          {Claim{Runtime: "lxc"}, "/../a/lxc.payload.l", "/../a/lxc.monitor.l", "/../a/lxc.payload.l"},
		"lxc, nearer outside the namespace":   {Claim{Runtime: "lxc"}, "/a/lxc.payload.l", "/../a/lxc.monitor.l", ""},
		"lxc.cgroup.dir.monitor":              {Claim{Runtime: "lxc"}, l, "/mine", ""},
		"lxc, in no cgroup of its own":        {Claim{Runtime: "lxc"}, "/", "/", "/"},
		"lxc, no name":                        {Claim{Runtime: "lxc"}, "/lxc.payload.", "/lxc.monitor.", ""},
		"lxc, monitor not known":              {Claim{Runtime: "lxc"}, l, "", ""},
		"lxc, config":                         {Claim{Runtime: "lxc", CgroupsPath: l}, l, "/mine", ""},

		"cgroupsPath":                  {Claim{CgroupsPath: "/docker/a"}, "/docker/a", "/system.slice", "/docker/a"},
		"cgroupsPath, below":           {Claim{CgroupsPath: "/docker/a"}, "/docker/a/b", "", "/docker/a"},
		"cgroupsPath, not clean":       {Claim{CgroupsPath: "/docker//a/"}, "/docker/a/b", "", "/docker/a"},
		"cgroupsPath, another's":       {Claim{CgroupsPath: "/docker/a"}, "/docker/ab", "/system.slice", ""},
		"cgroupsPath, below another's": {Claim{CgroupsPath: "/docker/a"}, "/lxc.payload.d/docker/a", "/system.slice", ""},
		"relative":                     {Claim{CgroupsPath: "a"}, "/system.slice/a", "/system.slice", "/system.slice/a"},
		"relative, in the root":        {Claim{CgroupsPath: "a"}, "/a/b", "/", "/a"},
		"relative, upwards":            {Claim{CgroupsPath: "../d"}, "/d", "/a", ""},
		"relative, another's":          {Claim{CgroupsPath: "a"}, "/lxc.payload.d/a", "/system.slice", ""},
		"relative, peer not known":     {Claim{CgroupsPath: "a"}, "/a", "", ""},
		"systemd":                      {Claim{CgroupsPath: "m.slice:libpod:a"}, "/m.slice/libpod-a.scope/c", "/x", "/m.slice/libpod-a.scope"},
		"systemd, nested":              {Claim{CgroupsPath: "a-b.slice::c"}, "/a.slice/a-b.slice/c.scope", "/", "/a.slice/a-b.slice/c.scope"},
		"systemd, no slice":            {Claim{CgroupsPath: ":docker:a"}, "/system.slice/docker-a.scope", "/x", "/system.slice/docker-a.scope"},
		"systemd, the root slice":      {Claim{CgroupsPath: "-.slice:docker:a"}, "/docker-a.scope", "/x", "/docker-a.scope"},
		"systemd, another's":           {Claim{CgroupsPath: "a.slice:docker:a"}, "/lxc.payload.d/a.slice/docker-a.scope", "/x", ""},
		"where the runtime is":         {Claim{CgroupsPath: "/docker/a"}, "/system.slice", "/system.slice", "/system.slice"},
		"nothing known":                {Claim{}, "/", "", ""},
	} {
		own, ok := test.claim.confirmOne(test.process, test.peer)
		if ok != (test.want != "") || ok && own != test.want {
			t.Errorf("%s: %q %v, want %q", name, own, ok, test.want)
		}
	}
}

func TestConfirm(t *testing.T) {
	claim := Claim{Runtime: "lxc", PeerCgroups: map[string]string{"": "/lxc.monitor.l", "pids": "/lxc.monitor.l", "devices": "/lxc.monitor.l"}}
	own, unconfirmed := claim.confirm(map[string]string{
		"": "/lxc.payload.x", "pids": "/lxc.payload.l", "devices": "/lxc.payload.d", "cpu": "/lxc.payload.l",
	})
	if want := map[string]string{"": "/lxc.payload.x", "pids": "/lxc.payload.l"}; !maps.Equal(own, want) {
		t.Errorf("own %q, want %q", own, want)
	}
	if want := map[string]string{"devices": "/lxc.payload.d", "cpu": "/lxc.payload.l"}; !maps.Equal(unconfirmed, want) {
		t.Errorf("unconfirmed %q, want %q", unconfirmed, want)
	}
}

func TestReadPeer(t *testing.T) {
	if got := ReadPeer(os.Getpid()); len(got) == 0 {
		t.Error("the cgroups of this process are not known")
	}
	for name, pid := range map[string]int{"in another user namespace": testcaller.Start(t, 0).PID, "gone": 1 << 30} {
		if got := ReadPeer(pid); got != nil {
			t.Errorf("a process %s: %v, want none", name, got)
		}
	}
}

// TestMovedToAnother looks at a container whose process has moved to another's cgroup of version 1, and made a cgroup
// namespace there.
func TestMovedToAnother(t *testing.T) {
	sdktest.RequireRoot(t)
	const hierarchy = "pids"
	top := sdktest.RequireCgroups(t, hierarchy)
	cgroups, err := cgroup.Read("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := cgroups[hierarchy]; !ok {
		sdktest.Lacking(t, "needs a pids controller of version 1")
	}
	for _, name := range []string{"intercede-test-own", "intercede-test-another"} {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Rmdir(dir); err != nil {
				t.Errorf("remove %s: %v", dir, err)
			}
		})
	}
	c := startIn(t, top+"/intercede-test-another")
	claim := Claim{CgroupsPath: "/intercede-test-own", PID: c.Process.Pid}
	moved := inspectContainer(t, claim)
	if p, found := moved.Cgroups()[hierarchy]; found || moved.UnconfirmedCgroups()[hierarchy] != "/intercede-test-another" {
		t.Errorf("the container's cgroup is %q, and %q is not confirmed; want none, and /intercede-test-another", p, moved.UnconfirmedCgroups())
	}
	if saved := saveAndRead(t, moved); saved.Cgroups[hierarchy] != "" {
		t.Errorf("saved: %+v", saved)
	}

	if err := os.WriteFile(filepath.Join(top, "intercede-test-own/cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	own := inspectContainer(t, claim)
	if own.Cgroups()[hierarchy] != "/intercede-test-own" {
		t.Errorf("the container's cgroup is %q, want /intercede-test-own", own.Cgroups()[hierarchy])
	}
	// As an older daemon saved it, and as this one does.
	old := saveAndRead(t, own)
	old.CgroupsConfirmed, old.Cgroups[hierarchy] = false, "/intercede-test-another"
	for want, saved := range map[string]Saved{"": old, "/intercede-test-own": saveAndRead(t, own)} {
		restored, err := Restore(saved, duplicate(t, own.Namespace()))
		if err != nil {
			t.Fatal(err)
		}
		defer restored.Close()
		if got := restored.Cgroups()[hierarchy]; got != want {
			t.Errorf("restored: %q, want %q", got, want)
		}
	}
}
