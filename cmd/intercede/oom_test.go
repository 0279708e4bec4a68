package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

func oomScoreAdj(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// withOOMScoreAdj is the command as a process that has this value.
func withOOMScoreAdj(score string, cmd *exec.Cmd) *exec.Cmd {
	cmd.Args = append([]string{"sh", "-c", "echo " + score + ` >/proc/self/oom_score_adj; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	return cmd
}

// TestServeOOMScoreAdj has the daemon killed late and its plugins early, by whatever value it was started with.
func TestServeOOMScoreAdj(t *testing.T) {
	s := newSite(t, both)
	d := &daemonProcess{cmd: withOOMScoreAdj("100", program("serve", "--config", s.config())), exited: make(chan struct{})}
	d.cmd.Stderr = &d.log
	s.start(t, d)
	sets, err := linux.ThreadCapabilities()
	if err != nil {
		t.Fatal(err)
	}
	want := "100" // it may not lower it
	if sets.Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		want = "-900"
	}
	if got := oomScoreAdj(t, d.cmd.Process.Pid); got != want {
		t.Errorf("the daemon's is %s, want %s", got, want)
	}
	for _, p := range s.status(t).Plugins {
		if got := oomScoreAdj(t, p.PID); got != "500" {
			t.Errorf("that of plugin %s is %s", p.Name, got)
		}
	}
}

// TestRunKeepsOOMScoreAdj has a container's processes with the value that `run` was started with, under a broker of its
// own and under a daemon.
func TestRunKeepsOOMScoreAdj(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	for name, flags := range map[string][]string{"own broker": nil, "daemon": {"--socket", s.socket()}} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"run", "--config", s.config()}, flags...)
			cmd := withOOMScoreAdj("70", program(append(args, "--", "cat", "/proc/self/oom_score_adj")...))
			if got := mustRun(t, cmd); got != "70\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}
