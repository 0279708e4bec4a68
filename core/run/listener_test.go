package run_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/notify"
)

func allowAll() []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
}

// notifyUnreserved notifies everything but run.ReservedSyscalls.
func notifyUnreserved(t *testing.T) []unix.SockFilter {
	t.Helper()
	numbers := map[string]uint32{
		"sendmsg": unix.SYS_SENDMSG, "execve": unix.SYS_EXECVE, "exit_group": unix.SYS_EXIT_GROUP, "rt_sigreturn": unix.SYS_RT_SIGRETURN,
	}
	var program cbpf.Program
	program.LoadNumber()
	for _, name := range run.ReservedSyscalls() {
		number, known := numbers[name]
		if !known {
			t.Fatalf("the test does not know the number of %s", name)
		}
		other := program.NewLabel()
		program.JumpUnless(number, other)
		program.Return(unix.SECCOMP_RET_ALLOW)
		program.Place(other)
	}
	program.Return(unix.SECCOMP_RET_USER_NOTIF)
	filter, err := program.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

// receive waits for a notification.
func receive(t *testing.T, listener *os.File) notify.Notification {
	t.Helper()
	var n notify.Notification
	if err := notify.FD(listener.Fd()).Receive(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestListener(t *testing.T) {
	filter, err := cbpf.Notify(unix.SYS_GETPPID)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "1000"} {
		t.Run("user "+user, func(t *testing.T) {
			stdout, read := capture(t)
			container := start(t, run.Options{
				Args:    shell("echo $PPID"), // dash asks the kernel once, at its start
				Stdout:  stdout,
				User:    user,
				CapDrop: []string{"all"},
				Filter:  filter,
			})
			listener := container.Listener()
			defer listener.Close()
			asked := receive(t, listener)
			if asked.NR != unix.SYS_GETPPID || int(asked.TID) != container.InitPID() {
				t.Errorf("notification of system call %d by %d", asked.NR, asked.TID)
			}
			if err := notify.FD(listener.Fd()).SendValue(asked.ID, 4242); err != nil {
				t.Fatal(err)
			}
			if status, err := container.Wait(); status != 0 || err != nil {
				t.Errorf("status %d, error %v", status, err)
			}
			if got := read(); got != "4242\n" {
				t.Errorf("the container got %q", got)
			}
		})
	}
}

func TestNoFilterNoListener(t *testing.T) {
	if listener := start(t, run.Options{Args: []string{"true"}}).Listener(); listener != nil {
		t.Error("there is a listener")
	}
}

// Start returns although everything else is notified and nobody answers: so the list is complete.
func TestReservedSyscallsAreAll(t *testing.T) {
	container := start(t, run.Options{Args: []string{"true"}, Filter: notifyUnreserved(t)})
	listener := container.Listener()
	defer listener.Close()
	if asked := receive(t, listener); asked.NR == unix.SYS_EXECVE {
		t.Error("execve was notified")
	}
}
