package run

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReservedSyscalls returns the system calls that the init makes between loading the filter and becoming the command, while
// nobody can answer a notification: one that the filter notifies there would hang the start for ever. sendmsg carries
// the listener, or why execve failed; rt_sigreturn ends a handler of the Go runtime, exit_group a failed start.
func ReservedSyscalls() []string {
	return []string{"sendmsg", "execve", "exit_group", "rt_sigreturn"}
}

// launch holds all that the last steps need, so that they are system calls and nothing else.
//
// The functions that run under the filter are go:nosplit, and go:norace, with all that they call. A function that is not
// asks on entry whether the goroutine is to be preempted, and a locked thread that is preempted waits in futex(2), which
// the filter may notify.
type launch struct {
	path       *byte
	argv, envv []*byte
	program    *unix.SockFprog // nil: no filter
	listener   packet
	failure    packet
	// descriptor is where listener has the descriptor's number, digits where failure has the errno's.
	descriptor *int32
	digits     []byte
}

// packet is an encoded message ready for sendmsg.
type packet struct {
	data, rights []byte
	vector       unix.Iovec
	header       unix.Msghdr
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

func (l *launch) prepareMessages() error {
	if err := l.listener.prepare(report{Listener: true}, unix.UnixRights(0)); err != nil {
		return err
	}
	l.descriptor = (*int32)(unsafe.Pointer(&l.listener.rights[unix.CmsgLen(0)]))
	if err := l.failure.prepare(report{ExecErrno: errnoBlank}, nil); err != nil {
		return err
	}
	blank := strconv.Itoa(errnoBlank)
	at := strings.Index(string(l.failure.data), blank)
	l.digits = l.failure.data[at : at+len(blank)]
	return nil
}

func (p *packet) prepare(message report, rights []byte) error {
	data, err := encodeMessage(message)
	if err != nil {
		return err
	}
	p.data, p.rights = data, rights
	p.vector.Base = &p.data[0]
	p.vector.SetLen(len(p.data))
	p.header.Iov = &p.vector
	p.header.SetIovlen(1)
	if len(rights) > 0 {
		p.header.Control = &p.rights[0]
		p.header.SetControllen(len(p.rights))
	}
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
		*l.descriptor = int32(listener)
		l.listener.send()
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_EXECVE,
		uintptr(unsafe.Pointer(l.path)),
		uintptr(unsafe.Pointer(&l.argv[0])),
		uintptr(unsafe.Pointer(&l.envv[0])))
	writeErrno(l.digits, errno)
	l.failure.send()
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

// send is one sendmsg; the message is far smaller than the socket's buffer, which is empty.
//
//go:nosplit
//go:norace
func (p *packet) send() {
	syscall.RawSyscall(unix.SYS_SENDMSG, initSocket, uintptr(unsafe.Pointer(&p.header)), unix.MSG_NOSIGNAL)
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

// setThreadGroups is setgroups(2) for the calling thread alone.
func setThreadGroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return errno
	}
	return nil
}
