package run_test

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/intercede/intercede/core/run"
)

// notification is struct seccomp_notif.
type notification struct {
	id         uint64
	pid, flags uint32
	number     int32
	arch       uint32
	pointer    uint64
	args       [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

func statement(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func allowAll() []unix.SockFilter {
	return []unix.SockFilter{statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW)}
}

// notifyOnly notifies one system call.
func notifyOnly(number uint32) []unix.SockFilter {
	return []unix.SockFilter{
		statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0),
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_USER_NOTIF),
		statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW),
	}
}

// notifyUnreserved notifies everything but run.ReservedSyscalls.
func notifyUnreserved(t *testing.T) []unix.SockFilter {
	t.Helper()
	numbers := map[string]uint32{
		"sendmsg": unix.SYS_SENDMSG, "execve": unix.SYS_EXECVE, "exit_group": unix.SYS_EXIT_GROUP, "rt_sigreturn": unix.SYS_RT_SIGRETURN,
	}
	filter := []unix.SockFilter{statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, 0)}
	for _, name := range run.ReservedSyscalls() {
		number, known := numbers[name]
		if !known {
			t.Fatalf("the test does not know the number of %s", name)
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
			statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
	}
	return append(filter, statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_USER_NOTIF))
}

func listenerIoctl(t *testing.T, listener *os.File, request uintptr, argument unsafe.Pointer) {
	t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener.Fd(), request, uintptr(argument)); errno != 0 {
		t.Fatalf("ioctl %#x: %v", request, errno)
	}
}

func TestListener(t *testing.T) {
	for _, user := range []string{"", "1000"} {
		t.Run("user "+user, func(t *testing.T) {
			stdout, read := capture(t)
			container := start(t, run.Options{
				Args:    shell("echo $PPID"), // dash asks the kernel once, at its start
				Stdout:  stdout,
				User:    user,
				CapDrop: []string{"all"},
				Filter:  notifyOnly(unix.SYS_GETPPID),
			})
			listener := container.Listener()
			defer listener.Close()
			var asked notification
			listenerIoctl(t, listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&asked))
			if asked.number != unix.SYS_GETPPID || int(asked.pid) != container.InitPID() {
				t.Errorf("notification of system call %d by %d", asked.number, asked.pid)
			}
			answer := response{id: asked.id, value: 4242}
			listenerIoctl(t, listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer))
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
	var asked notification
	listenerIoctl(t, listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&asked))
	if asked.number == unix.SYS_EXECVE {
		t.Error("execve was notified")
	}
}
