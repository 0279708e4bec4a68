package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"golang.org/x/sys/unix"
)

// keep starts the daemon with a keeper, and waits until it answers.
func (s *site) keep(t *testing.T, flags ...string) *daemonProcess {
	t.Helper()
	args := append([]string{"keep", "--fallback", s.dir + "/fallback", "--journal", s.dir + "/journal"}, flags...)
	cmd := program(append(args, "--", filepath.Join(binaries, "intercede"), "serve", "--config", s.config())...)
	// The process that answers after keep holds the standard error open: it is a file.
	log, err := os.OpenFile(s.dir+"/log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d := &daemonProcess{cmd: cmd, exited: make(chan struct{})}
	t.Cleanup(func() {
		if text, err := os.ReadFile(s.dir + "/log"); t.Failed() && err == nil {
			t.Logf("the log:\n%s", text)
		}
	})
	s.start(t, d)
	return d
}

// TestKeep has containers go on through whatever ends their daemon.
func TestKeep(t *testing.T) {
	s := newSite(t, both)
	keeper := s.keep(t)
	m := s.startMaker(t)
	m.want(t, "made\n")
	t.Run("SIGKILL", func(t *testing.T) {
		for range 20 {
			pid := s.status(t).PID
			unix.Kill(pid, unix.SIGKILL)
			m.want(t, "made\n")
			if now := s.status(t); now.PID == pid || len(now.Containers) != 1 {
				t.Fatalf("after daemon %d there is %d with %d containers", pid, now.PID, len(now.Containers))
			}
		}
	})
	t.Run("start while there is no daemon", func(t *testing.T) {
		unix.Kill(s.status(t).PID, unix.SIGKILL)
		other := s.startMaker(t)
		other.want(t, "made\n")
		other.in.Close()
		if err := other.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("reload", func(t *testing.T) {
		s.write(t, "[plugins.mknot]\n")
		if r := intercede(t, "reload", "--config", s.config()); r.status != cli.ExitFailure {
			t.Errorf("a config with a problem: %+v", r)
		}
		s.write(t, both+"[broker.nonsense]\n")
		s.write(t, both)
		wantText(t, mustRun(t, program("reload", "--config", s.config())), "reloaded")
		m.want(t, "made\n")
	})
	t.Run("upgrade", func(t *testing.T) {
		pid := s.status(t).PID
		wantText(t, mustRun(t, program("upgrade", "--config", s.config())), "serves 1 containers")
		if now := s.status(t).PID; now == pid {
			t.Error("it is the same daemon")
		}
		m.want(t, "made\n")
	})
	t.Run("upgrade to what does not work", func(t *testing.T) {
		pid := s.status(t).PID
		s.write(t, both+"[plugins.mknod.config]\nx = 1\n")
		r := intercede(t, "upgrade", "--config", s.config())
		if r.status != cli.ExitFailure || s.status(t).PID != pid {
			t.Errorf("upgraded: %+v", r)
		}
		s.write(t, both)
		m.want(t, "made\n")
	})
	t.Run("keeper's program", func(t *testing.T) {
		keeper.cmd.Process.Signal(unix.SIGUSR2)
		eventually(t, "the keeper has executed its program", func() bool { return strings.Contains(s.log(t), "executed its program anew") })
		m.want(t, "made\n")
	})
	t.Run("stop", func(t *testing.T) {
		unix.Kill(-keeper.cmd.Process.Pid, unix.SIGTERM)
		<-keeper.exited
		m.want(t, "Operation not permitted") // as if it had never been intercepted
		s.keep(t)
		m.want(t, "made\n")
		if n := len(s.status(t).Containers); n != 1 {
			t.Errorf("%d containers", n)
		}
	})
	for line := range strings.Lines(s.log(t)) {
		whole := strings.HasSuffix(line, "\n") // the last one may be being written
		if whole && !regexp.MustCompile(`"time":"[^"]*T\d\d:\d\d:\d\d\.\d{3}[Z+-]`).MatchString(line) {
			t.Errorf("a time without milliseconds: %s", line)
		}
	}
}

func (s *site) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestUpgradeNeedsKeeper refuses what would lose containers.
func TestUpgradeNeedsKeeper(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	r := intercede(t, "upgrade", "--config", s.config())
	wantText(t, r.stderr, "intercede keep")
	if r.status != cli.ExitFailure || s.status(t).PID != d.cmd.Process.Pid {
		t.Errorf("upgraded: %+v", r)
	}
	d.logs(t, "no descriptor store")
}

// TestKeepWithoutBroker has a daemon that does not start again: calls go on in the kernel until it does.
func TestKeepWithoutBroker(t *testing.T) {
	s := newSite(t, both)
	s.keep(t, "--answer-after", "100ms")
	m := s.startMaker(t)
	m.want(t, "made\n")
	s.write(t, "[plugins.mknot]\n")
	unix.Kill(s.daemonPID(t), unix.SIGKILL)
	eventually(t, "a call goes on in the kernel", func() bool { return strings.Contains(m.try(t), "Operation not permitted") })
	s.write(t, both)
	eventually(t, "the daemon is back", func() bool { return m.try(t) == "made\n" })
}

// daemonPID is the daemon's process ID, by the log: a config with problems keeps status from asking. The log may say
// the ID after the daemon has begun to serve.
func (s *site) daemonPID(t *testing.T) (pid int) {
	t.Helper()
	eventually(t, "the log says the ID of the daemon that runs", func() bool {
		pid = s.lastPID(t)
		return unix.Kill(pid, 0) == nil
	})
	return pid
}

func (s *site) lastPID(t *testing.T) int {
	t.Helper()
	started := regexp.MustCompile(`"broker started","pid":(\d+)`).FindAllStringSubmatch(s.log(t), -1)
	if len(started) == 0 {
		t.Fatal("the keeper has started no daemon")
	}
	pid, err := strconv.Atoi(started[len(started)-1][1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestKeepLXC has a container of LXC's go on under the next daemon, and without any.
func TestKeepLXC(t *testing.T) {
	s := newSite(t, both)
	keeper := s.keep(t, "--answer-after", "100ms")
	c := s.newLXC(t)
	c.start(t)
	const line = "rm -f /tmp/zero; mknod /tmp/zero c 1 5 && echo made"
	want := func(want string) {
		t.Helper()
		if got := c.sh(t, line); !strings.Contains(got, want) {
			t.Errorf("mknod: %q, want %q", got, want)
		}
	}
	want("made\n")
	for range 5 {
		unix.Kill(s.daemonPID(t), unix.SIGKILL)
		eventually(t, "the daemon is back", func() bool { return c.sh(t, line) == "made\n" })
	}
	s.write(t, "[plugins.mknot]\n")
	unix.Kill(s.daemonPID(t), unix.SIGKILL)
	eventually(t, "a call goes on in the kernel", func() bool { return strings.Contains(c.sh(t, line), "Operation not permitted") })
	want("Operation not permitted")
	s.write(t, both)
	eventually(t, "the daemon is back", func() bool { return c.sh(t, line) == "made\n" })

	keeper.stop(t)
	want("Operation not permitted")
	s.keep(t)
	want("made\n")
}

// TestSignalToProcessGroup ends a daemon together with its process group, as a shell or a service manager does: a call
// that a plugin is at is finished.
func TestSignalToProcessGroup(t *testing.T) {
	s := newSite(t, both)
	d := &daemonProcess{cmd: program("serve", "--config", s.config()), exited: make(chan struct{})}
	d.cmd.Stderr = &d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.start(t, d)
	m := s.startMaker(t)
	m.want(t, "made\n")
	s.waitForRecords(t)
	thaw := freezePlugin(t, s, "mknod")
	if _, err := m.in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin has a call", func() bool {
		return slices.ContainsFunc(s.status(t).PluginCalls, func(p broker.PluginCalls) bool { return p.Plugin == "mknod" && p.Inflight == 1 })
	})
	unix.Kill(-d.cmd.Process.Pid, unix.SIGTERM)
	thaw()
	if line, err := m.out.ReadString('\n'); err != nil || line != "made\n" {
		t.Errorf("the call: %q, %v", line, err)
	}
}
