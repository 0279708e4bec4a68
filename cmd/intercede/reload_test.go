package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

// setBroker replaces the keys that this has set in [broker] of the config.
func (s *site) setBroker(t *testing.T, keys string) {
	t.Helper()
	text, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	replaced := regexp.MustCompile(`(?s)\[broker\]\n.*?socket =`).ReplaceAllString(string(text), "[broker]\n"+keys+"socket =")
	if err := os.WriteFile(s.config(), []byte(replaced), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A terminal gets colours unless the user or the terminal wants none.
func TestColors(t *testing.T) {
	s := newSite(t, both)
	s.setBroker(t, "log_format = \"console\"\n")
	for env, colors := range map[string]bool{"TERM=xterm NO_COLOR=": true, "TERM=xterm NO_COLOR=1": false, "TERM=dumb NO_COLOR=": false} {
		// It makes a call, since a command that ends at once may never be attached.
		line := fmt.Sprintf("env %s %s/intercede run --log-level info --config %s -- mknod /tmp/zero c 1 5", env, binaries, s.config())
		cmd := exec.Command("script", "-qec", line, "/dev/null")
		in, err := cmd.StdinPipe() // at whose end script would stop reading
		if err != nil {
			t.Fatal(err)
		}
		said := mustRun(t, cmd)
		in.Close()
		wantText(t, said, "listener attached")
		if strings.Contains(said, "\x1b[") != colors {
			t.Errorf("%s: colors: %v: %q", env, !colors, said)
		}
	}
}

// A reload says what is different, and what is wrong. What is logged, and how, changes at once.
func TestReloadSaysWhatChanged(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	reload := func(want ...string) {
		t.Helper()
		wantText(t, mustRun(t, program("reload", "--config", s.config())), want...)
	}
	reload("nothing is different from before")

	m := s.startMaker(t)
	m.want(t, "made")
	if strings.Contains(d.log.String(), `"syscall":"mknod`) {
		t.Error("a call is logged at info")
	}
	s.setBroker(t, "log_level = \"debug\"\n")
	reload(`broker.log_level: "debug" (was not given)`)
	m.want(t, "made")
	eventually(t, "the call is logged", func() bool { return strings.Contains(d.log.String(), `"syscall":"mknod`) })
	if line := regexp.MustCompile(`"time":"[^"]*T\d\d:\d\d:\d\d\.\d{3}[^"]*"`).FindString(d.log.String()); line == "" {
		t.Error("times in the log have no milliseconds")
	}

	s.setBroker(t, "log_level = \"info\"\nlog_format = \"console\"\n")
	before := len(d.log.String())
	reload(`broker.log_format: "console" (was not given)`, `broker.log_level: "info" (was "debug")`)
	d.cmd.Process.Signal(unix.SIGHUP)
	eventually(t, "the log is for people", func() bool { return strings.Contains(d.log.String()[before:], " INF config reloaded") })
	if said := d.log.String(); strings.Contains(said, "\x1b[") {
		t.Errorf("colours in a pipe: %q", said[before:])
	}

	s.write(t, both+"[plugins.mount.config]\nallowed = [\"tmpfs\"]\n")
	r := intercede(t, "reload", "--config", s.config())
	if r.status != cli.ExitFailure {
		t.Errorf("status %d", r.status)
	}
	wantText(t, r.stderr, `plugins.mount.config.allowed: "tmpfs" has no block device`, "not reloaded: the former config stays in force")

	s.write(t, both)
	s.setBroker(t, "priority = -1\n")
	reload("broker.priority: restart the daemon for it")
	m.in.Close()
}
