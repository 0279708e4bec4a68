//go:build runtimes

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd in an unprivileged container, as the page about LXC has it. debootstrap needs a Debian mirror.
func TestEngineLXCSystemd(t *testing.T) {
	require(t, append(lxcPrograms, "lxc-start", "lxc-stop", "debootstrap")...)
	blocks := systemdBlocks(t)
	s := newSite(t, "[plugins.bpf]\nenabled = false\n"+blocks["toml"]) // as config.toml has it
	s.serve(t)
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	paths := strings.NewReplacer("/run/intercede/lxc.sock", s.lxcSocket(), "/etc/intercede/lxc.seccomp", dir+"/lxc.seccomp")
	script := `
		mount --bind "$1" /var/lib/lxc
		echo root:100000:65536 >"$1/subid"
		mount --bind "$1/subid" /etc/subuid
		mount --bind "$1/subid" /etc/subgid
		chmod 755 "$1"
		trap 'lxc-stop -k -n debian' EXIT
		` + paths.Replace(blocks["bash"])
	profile := mustRun(t, program("profile", "--config", s.config(), "--format", "lxc", "--base", "/usr/share/lxc/config/common.seccomp"))
	if err := os.WriteFile(dir+"/lxc.seccomp", []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	output := mustRun(t, exec.Command("unshare", "-m", "--propagation", "private", "bash", "-e", "-c", script, "bash", dir))
	wantText(t, output, strings.Split(strings.TrimSpace(blocks["text"]), "\n")...)
}

// systemdBlocks are the blocks of the page's section, by their kind.
func systemdBlocks(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(pages, "lxc.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## systemd\n")
	if !found {
		t.Fatal("there is no such section")
	}
	blocks := map[string]string{}
	for _, block := range fence.FindAllStringSubmatch(section, -1) {
		blocks[block[2]] = block[3]
	}
	return blocks
}

// Whatever the config allows a plugin, LXC has its answer before it gives up.
func TestEngineLXCPatience(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\ntimeout = \"5m\"\non_failure = \"EIO\"\n")
	s.serve(t)
	c := s.newLXC(t)
	c.start(t)
	const mknod = "rm -f /tmp/null; mknod /tmp/null c 1 3 && echo made"
	for range 3 {
		wantText(t, c.sh(t, mknod), "made\n") // by a lane, in the end
	}
	thaw := freezePlugin(t, s, "mknod")
	wantText(t, c.sh(t, mknod), "Input/output error")
	thaw()
	wantText(t, c.sh(t, mknod), "made\n")
	if log := c.log(t); strings.Contains(log, "seccomp proxy") {
		t.Errorf("LXC did not get its answer:\n%s", log)
	}
}
