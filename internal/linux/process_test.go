package linux

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// TestProcessStates stops a process, continues it, and ends it.
func TestProcessStates(t *testing.T) {
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	pid := sleep.Process.Pid
	if IsStopped(pid) || IsExiting(pid) {
		t.Error("a process that sleeps is stopped, or ends")
	}
	sleep.Process.Signal(unix.SIGSTOP)
	eventually(t, "it is stopped", func() bool { return IsStopped(pid) })
	if IsExiting(pid) {
		t.Error("a process that is stopped ends")
	}
	sleep.Process.Signal(unix.SIGCONT)
	eventually(t, "it is not stopped", func() bool { return !IsStopped(pid) })
	sleep.Process.Kill()
	eventually(t, "it ends", func() bool { return IsExiting(pid) }) // it is not waited for yet
	if IsStopped(pid) {
		t.Error("a process that has ended is stopped")
	}
	if IsStopped(os.Getpid()) || IsExiting(os.Getpid()) {
		t.Error("this process is stopped, or ends")
	}
}
