package run

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// ReservedSyscalls returns the system calls that the init makes between loading the filter and becoming the command,
// while nobody can answer a notification: one that the filter notifies there would hang the start for ever. sendmsg
// carries the listener, or why execve failed; rt_sigreturn ends a handler of the Go runtime, exit_group a failed start.
func ReservedSyscalls() []string {
	return []string{"sendmsg", "execve", "exit_group", "rt_sigreturn"}
}

// launch holds all that the last steps need, so that they are system calls and nothing else.
//
// The functions that run under the filter are go:nosplit, and go:norace, with all that they call. A function that is
// not asks on entry whether the goroutine is to be preempted, and a locked thread that is preempted waits in futex(2),
// which the filter may notify.
type launch struct {
	path       *byte
	argv, envv []*byte
	program    *unix.SockFprog // nil: no filter
	listener   *linux.Packet
	failure    *linux.Packet
	digits     []byte // of the errno in failure
}

// errnoBlank stands for the errno in the prepared failure; it is overwritten with digits of the same width.
const errnoBlank = 99999

func newLaunch(path string, args, env []string, filter []unix.SockFilter) (*launch, error) {
	l := &launch{}
	var err error
	if l.path, err = unix.BytePtrFromString(path); err != nil {
		return nil, err
	}
	if l.argv, err = syscall.SlicePtrFromStrings(args); err != nil {
		return nil, err
	}
	if l.envv, err = syscall.SlicePtrFromStrings(env); err != nil {
		return nil, err
	}
	if len(filter) > 0 {
		l.program = &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	}
	return l, l.prepareMessages()
}

// prepareMessages makes them small: the socket's buffer, which is empty, has room for either.
func (l *launch) prepareMessages() error {
	listener, err := encodeMessage(report{Listener: true})
	if err != nil {
		return err
	}
	failure, err := encodeMessage(report{ExecErrno: errnoBlank})
	if err != nil {
		return err
	}
	blank := strconv.Itoa(errnoBlank)
	at := strings.Index(string(failure), blank)
	l.digits = failure[at : at+len(blank)]
	l.listener, l.failure = linux.NewPacket(listener, true), linux.NewPacket(failure, false)
	return nil
}

// run returns only with an error from loading the filter; one from execve is reported under the filter.
func (l *launch) run() error {
	errno := l.filterAndExecute()
	if errno == unix.EBUSY {
		return fmt.Errorf("load the seccomp filter: this process is under a filter with a listener already, and the kernel allows one; start intercede outside that container: %w", errno)
	}
	return fmt.Errorf("load the seccomp filter: %w", errno)
}

// filterAndExecute returns only if the filter was not loaded.
//
// Where the kernel (5.19) can do that, a notification that the supervisor has received is interrupted by SIGKILL alone.
//
//go:nosplit
//go:norace
func (l *launch) filterAndExecute() syscall.Errno {
	if l.program != nil {
		listener, errno := setFilter(l.program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
		if errno == unix.EINVAL {
			listener, errno = setFilter(l.program, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
		}
		if errno != 0 {
			return errno
		}
		*l.listener.Descriptor = int32(listener)
		l.listener.Send(initSocket)
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE,
		uintptr(unsafe.Pointer(l.path)),
		uintptr(unsafe.Pointer(&l.argv[0])),
		uintptr(unsafe.Pointer(&l.envv[0])))
	writeErrno(l.digits, errno)
	l.failure.Send(initSocket)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}

// setFilter filters the calling thread and returns the listener, close-on-exec (seccomp(2)).
//
//go:nosplit
//go:norace
func setFilter(program *unix.SockFprog, flags uintptr) (uintptr, syscall.Errno) {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(program)))
	return fd, errno
}

// writeErrno pads with spaces, which JSON allows before a number.
//
//go:nosplit
//go:norace
func writeErrno(digits []byte, errno syscall.Errno) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = ' '
		if errno > 0 {
			digits[i] = '0' + byte(errno%10)
			errno /= 10
		}
	}
}
