package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

// TestPluginOfOthers has a plugin of somebody else's after one of the project: it is asked for what that does not want,
// and makes a call that no plugin of the project makes, if the operator grants that.
func TestPluginOfOthers(t *testing.T) {
	require(t, "perl", "busybox")
	path := binaries + "/mine"
	if err := goBuild("mine", "./testdata/mine"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
	const mknod = "[plugins.mknod]\ngrant = \"manifest\"\n"
	mine := func(grant string) string { return fmt.Sprintf("[plugins.mine]\npath = %q\n%s\n", path, grant) }
	const line = `grant = { capabilities = ["CAP_SYSLOG"], syscalls = ["syslog"] }`

	s := newSite(t, mine("grant = { syscalls = [\"syslog\"] }"))
	r := intercede(t, "check", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, "plugins.mine.grant", "what is not granted: capabilities CAP_SYSLOG", line)
	list := intercede(t, "plugin", "list", "--config", s.config())
	wantText(t, list.stdout, "not: capabilities CAP_SYSLOG")

	s.write(t, mine(line)+mknod)
	r = intercede(t, "check", "--config", s.config())
	wantText(t, r.stderr, "broker.order", `order = ["mine", "mknod"]`)

	s.write(t, "order = [\"mknod\", \"mine\"]\n"+mine(line)+mknod)
	script := fmt.Sprintf(`perl -e 'print "unread ", syscall(%d, %d, 0, 0) >= 0 ? "known" : $!, "\n"'
		cd /tmp; busybox mknod null c 1 3 && echo made; busybox mknod other c 10 229 2>&1; busybox mknod pipe p 2>&1`,
		unix.SYS_SYSLOG, unix.SYSLOG_ACTION_SIZE_UNREAD)
	run := intercede(t, "run", "--config", s.config(), "--", "sh", "-c", script)
	wantText(t, run.stdout, "unread known", "made", "other: Invalid cross-device link", "pipe: Invalid cross-device link")
}
