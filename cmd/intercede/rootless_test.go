package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A user who may connect to the socket has the daemon serve its containers. A listener that is not of the container
// that it names gets no plugin: its callers are left to the kernel.
func TestServeRootlessPeer(t *testing.T) {
	const user = 1000
	if err := goBuild("rootless", "./testdata/rootless"); err != nil {
		t.Fatal(err)
	}
	for who, want := range map[string]string{
		"inside":  `"plugin":"sysinfo","outcome":"return"`,
		"outside": `"plugin":"","outcome":"continue"`,
	} {
		t.Run(who, func(t *testing.T) {
			s := newSite(t, both)
			d := &daemonProcess{cmd: program("serve", "--config", s.config(), "--log-level", "debug"), exited: make(chan struct{})}
			d.cmd.Stderr = &d.log
			s.start(t, d)
			if err := errors.Join(os.Chmod(s.dir, 0o711), os.Chown(s.socket(), user, user)); err != nil {
				t.Fatal(err)
			}
			peer := exec.Command(filepath.Join(binaries, "rootless"), who, s.socket())
			peer.Dir, peer.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
			wantText(t, mustRun(t, peer), "called")
			var record string
			eventually(t, "the call is logged", func() bool {
				for line := range strings.Lines(d.log.String()) {
					if strings.Contains(line, `"syscall":"sysinfo"`) {
						record = line
					}
				}
				return record != ""
			})
			wantText(t, record, want)
		})
	}
}
