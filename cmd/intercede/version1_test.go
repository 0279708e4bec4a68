package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// movingLXC starts two containers of LXC's, of which a rule gives the first one more devices, by its cgroup. The second
// finds the first one's cgroups of version 1 below /mnt, as if that had passed it descriptors on them.
func movingLXC(t *testing.T, s *site) (matched, moving *lxcContainer) {
	t.Helper()
	top := filepath.Dir(sdktest.RequireCgroups(t, "pids"))
	matched = s.newLXC(t)
	s.write(t, fmt.Sprintf(`[plugins.mknod]
[plugins.mknod.config]
devices = ["c 1:3"]
[[container]]
match = { runtime = "lxc", cgroup = "/lxc.payload.%s" }
plugins.mknod.config.devices = ["c 1:3", "c 1:5"]
`, matched.name))
	matched.start(t)
	folders, err := filepath.Glob(filepath.Join(top, "*", "lxc.payload."+matched.name))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "tasks")); err == nil { // version 2 has no such file
			lines = append(lines, fmt.Sprintf("lxc.mount.entry = %s mnt/%s none bind,create=dir", folder, filepath.Base(filepath.Dir(folder))))
		}
	}
	if len(lines) == 0 {
		sdktest.Lacking(t, "LXC makes no cgroups of version 1 here")
	}
	moving = s.newLXC(t, lines...)
	moving.start(t)
	return matched, moving
}

// A container that moves itself to another one's cgroups of version 1 before its first intercepted call does not get
// what a rule gives the other one by them.
func TestLXCMovesToAnotherCgroup(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n")
	d := s.serve(t)
	matched, moving := movingLXC(t, s)
	intercede(t, "reload", "--config", s.config())
	d.logs(t, "config reloaded")

	// The first process is LXC's init, and what the test says is done by the second.
	moved := moving.sh(t, "for file in /mnt/*/cgroup.procs; do echo 1 >$file; echo 0 >$file; done; busybox cat /proc/1/cgroup")
	if !strings.Contains(moved, "lxc.payload."+matched.name) {
		t.Fatalf("the container has not moved: %s", moved)
	}
	wantText(t, moving.sh(t, "mknod /tmp/null c 1 3 && echo made; mknod /tmp/zero c 1 5"), "made\n", "/tmp/zero: Operation not permitted")
	d.logs(t, "the cgroup of its monitor is not the lxc.monitor.NAME beside them")
	wantText(t, mustRun(t, program("policy", "explain", "--config", s.config(), moving.name)), "no: cgroup")
	wantText(t, matched.sh(t, "mknod /tmp/zero c 1 5 && echo made"), "made\n")
}

// A device cgroup of version 1 does not keep a container from what it makes nodes of: it can move to another one's.
func TestRuntimeDeniedByVersion1(t *testing.T) {
	sdktest.RequireCgroups(t, "devices")
	s := newSite(t, both)
	s.serve(t)
	b := newBundle(t, "runc", s.profile(t), "mknod /tmp/null c 1 3 && echo made; mknod /tmp/console c 5 1; echo ready; exec sleep 1000")
	if err := b.create(t); err != nil {
		t.Fatalf("create: %v: %s", err, b.output(t))
	}
	mustRun(t, b.cmd("start", b.id))
	b.said(t, "ready\n")
	wantText(t, b.output(t), "made\n", "/tmp/console: Operation not permitted")
	s.waitForRecords(t)
	wantText(t, mustRun(t, program("why", "--config", s.config(), b.id)), "no_device_cgroup [mknod]", "of version 1 does not count")
	mustRun(t, b.cmd("kill", b.id, "KILL"))
	s.waitForContainers(t, 0)
}
