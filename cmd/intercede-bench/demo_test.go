package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/intercede/intercede/cmd/intercede-bench/demo"
	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestDemoShowsTheDifference(t *testing.T) {
	r := intercedeBench(t, "demo", "--config", writeConfig(t, ""), "--plugin-dir", pluginFolder(t, "mknod", "sysinfo"))
	if r.status != 0 || r.stderr != "" {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	wantText(t, r.stdout, "mknod /tmp/null c 1 3", "mknod /dev/demo c 1 3", "EPERM",
		"made, writable: crw-r--r-- 1, 3", "host: ", "limit: 64.0 MiB")
	for line := range strings.Lines(r.stdout) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 100 {
			t.Errorf("wider than 100 columns: %q", line)
		}
	}
}

// TestDemoOfAll has all plugins installed.
func TestDemoOfAll(t *testing.T) {
	r := intercedeBench(t, "demo", "--config", writeConfig(t, ""), "--plugin-dir", binaries, "--json")
	var report demo.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.status != 0 {
		t.Fatalf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	shown := map[string]bool{}
	for _, c := range report.Cases {
		shown[c.Plugin] = true
		if !c.OK || c.With.P50 <= 0 {
			t.Errorf("%+v", c)
		}
	}
	for _, name := range []string{"mknod", "sysinfo", "setxattr", "sched", "bpf", "mount"} {
		if !shown[name] {
			t.Errorf("nothing of %s", name)
		}
	}
}

// onOverlay is a shell script that executes its arguments where the root filesystem is an overlay of the host's.
const onOverlay = `set -e
at=$(mktemp -d); trap 'rmdir "$at"' EXIT
unshare -m --propagation private sh -ec '
	at=$1; shift
	mount -t tmpfs overlay "$at"; mkdir "$at/upper" "$at/work" "$at/root"
	mount -t overlay overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" "$at/root"
	for dir in proc sys dev run; do mount --rbind "/$dir" "$at/root/$dir"; done
	cd "$at/root"; pivot_root . mnt; cd /; umount -l /mnt
	exec "$@"' sh "$at" "$@"`

// TestDemoOnOverlay has an overlay as the root filesystem, as in containers that are used like hosts.
func TestDemoOnOverlay(t *testing.T) {
	sdktest.RequireRoot(t)
	if output, err := exec.Command("sh", "-c", onOverlay, "sh", "true").CombinedOutput(); err != nil {
		t.Fatalf("an overlay of the root filesystem: %v: %s", err, output)
	}
	demo := []string{filepath.Join(binaries, "intercede-bench"), "demo", "--config", writeConfig(t, ""), "--plugin-dir", binaries}
	output, err := exec.Command("sh", append([]string{"-c", onOverlay, "sh"}, demo...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
	wantText(t, string(output), "mounted, root's: nosuid, nodev", "limit: 64.0 MiB")
}

func TestDemoWithNothingToShow(t *testing.T) {
	r := intercedeBench(t, "demo", "--config", writeConfig(t, ""), "--plugin-dir", t.TempDir())
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, "make build")
}
