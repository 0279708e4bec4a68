package run_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/run"
	"golang.org/x/sys/unix"
)

// overlayOf mounts an overlay of the directory, until the end of the test.
func overlayOf(t *testing.T, lower string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, dir, dir)
	if err := unix.Mount("overlay", dir+"/root", "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir+"/root", unix.MNT_DETACH) })
	return dir + "/root"
}

// A container on an overlay, which cannot be idmapped: its root writes to its directories, has nothing that belongs
// to the host's root but what everybody may read, and changes nothing.
func TestOverlayAsRoot(t *testing.T) {
	lower := smallRootfs(t)
	commands := fmt.Sprintf("cd %s; mkdir -p etc tmp; echo open > etc/open; echo secret > etc/secret; chmod 600 etc/secret; "+
		"mkdir etc/below; chmod 1777 tmp; mkdir other; chown 7:7 other; chmod 700 other; cp /usr/bin/id etc/id; chmod 4755 etc/id", lower)
	if text, err := exec.Command("sh", "-c", commands).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	dir := overlayOf(t, lower)
	before := listing(t, dir)
	options := run.Options{Rootfs: dir, Ephemeral: true, Args: shell(`
		read open < /etc/open; echo "$open"
		(read secret < /etc/secret) 2>/dev/null && echo read
		(echo x > /etc/open) 2>/dev/null && echo written
		(echo x > /etc/below/new) 2>/dev/null && echo below
		(echo x > /other/new) 2>/dev/null && echo other
		echo new > /etc/new && read new < /etc/new && echo "$new"
		echo new > /tmp/new && echo tmp`)}
	warning := ""
	options.Warn = func(text string) { warning = text }
	got, want := output(t, options), "open\nnew\ntmp\n"
	if warning == "" { // this kernel can map the overlay
		want = "open\nread\nwritten\nbelow\nother\nnew\ntmp\n"
	} else if !strings.Contains(warning, dir) {
		t.Errorf("warning %q", warning)
	}
	if got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the directory has changed: %s, was %s", after, before)
	}
	if warning == "" {
		return
	}
	options.Ephemeral = false
	if err := startError(t, options); err == nil || !strings.Contains(err.Error(), "--ephemeral") {
		t.Errorf("changes that are not discarded: %v", err)
	}
	warning = ""
	options.Rootfs, options.Ephemeral, options.Args = lower, true, shell("exit")
	if output(t, options); warning != "" {
		t.Errorf("warning %q", warning)
	}
}
