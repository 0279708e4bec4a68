package sched

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestUserOfHost leaves a process of the host alone that has the user id of the container's root.
func TestUserOfHost(t *testing.T) {
	c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"min_nice": -10}))
	foreign := exec.Command("sleep", "1000")
	foreign.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: sdktest.HostID, Gid: sdktest.HostID}}
	if err := foreign.Start(); err != nil {
		t.Fatal(err)
	}
	defer foreign.Wait()
	defer foreign.Process.Kill()
	result := c.Call(t, "sys setpriority PRIO_USER 0 -5", "sys getpriority PRIO_USER 0")
	if got := sdktest.Errnos(result.Lines(t)); got != "ok ok" || result.Kinds() != "value" {
		t.Errorf("the caller gets %s, %s", got, result.Kinds())
	}
	const plain, changed = 20, 25 // getpriority(2), as the system call returns it
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, foreign.Process.Pid); err != nil || nice != plain {
		t.Errorf("the host's process: %d, %v", nice, err)
	}
	if nice, err := unix.Getpriority(unix.PRIO_PROCESS, c.Identity().InitPID); err != nil || nice != changed {
		t.Errorf("the container's first process: %d, %v", nice, err)
	}
}
