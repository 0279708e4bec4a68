package main

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/why"
)

// TestWhy asks about a container that lacks a capability and has made calls that were refused, and about its process.
func TestWhy(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n[plugins.mount]\n[plugins.mount.config]\nallowed = [\"ext4\"]\n")
	s.serve(t)
	container := newFollower(t, program("run", "--config", s.config(), "--socket", s.socket(), "--cap-drop", "CAP_SYS_ADMIN", "--",
		"sh", "-c", "mknod /tmp/b c 1 1; mknod /tmp/b c 1 1; mount -t ext4 /dev/no /mnt; echo ready; exec sleep 1000"))
	if line := container.next(t); line != "ready" {
		t.Fatalf("the container says %q", line)
	}
	s.waitForRecords(t)
	id, init := s.status(t).Containers[0].ID, s.status(t).Containers[0].InitPID
	ask := func(who string) string {
		t.Helper()
		return mustRun(t, program("why", "--config", s.config(), who))
	}
	refusals := []string{
		"[mount]: the caller has no CAP_SYS_ADMIN effective\n  -> The caller lacks CAP_SYS_ADMIN",
		`mknodat(AT_FDCWD, "/tmp/b", S_IFCHR|0666, makedev(1, 1)) by mknod (PID `,
		"device_not_listed [mknod]: c 1:1 (2 calls)\n  -> The device is not among `devices`",
	}
	wantText(t, ask(id[:8]), append(refusals, "Container "+id, "no [[container]] rule matches",
		"mknod runs and serves mknod, mknodat (enabled: "+s.config())...)
	wantText(t, ask(strconv.Itoa(init)), append(refusals, "Process "+strconv.Itoa(init), "Container "+id, "has a seccomp filter",
		"PROBLEM  The process lacks CAP_SYS_ADMIN, which the plugin mount asks for", "--cap-add sys_admin")...)

	var reports []why.Report
	if err := json.Unmarshal([]byte(mustRun(t, program("why", "--control", s.dir+"/control", "--json", id))), &reports); err != nil {
		t.Fatal(err)
	}
	if len(reports) != 1 || reports[0].Process != nil || reports[0].Container.ID != id || len(reports[0].Container.Refusals) != 2 {
		t.Errorf("got %+v", reports)
	}
	// A process of the host, and what is not there.
	wantText(t, ask(strconv.Itoa(container.cmd.Process.Pid)), "in the host's user namespace", "no seccomp filter", "No attached container")
	for who, message := range map[string]string{"nosuch": "knows no container", "999999999": "there is no process 999999999"} {
		r := intercede(t, "why", "--config", s.config(), who)
		if wantText(t, r.stderr, message); r.status != cli.ExitFailure || r.stdout != "" {
			t.Errorf("%s: %+v", who, r)
		}
	}
}
