// Package notify speaks the kernel's side of seccomp user notification: the ioctls of a listener, and loading a filter
// that makes one (seccomp_unotify(2), kernel/seccomp.c).
package notify

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// ErrGone means that nobody waits for this notification any more: the caller was killed, a signal interrupted its call,
// or it has been answered.
var ErrGone = errors.New("the notification is gone")

// FD is a listener: the descriptor that SECCOMP_FILTER_FLAG_NEW_LISTENER gives. Its owner closes it.
type FD int

// Notification is struct seccomp_notif with its seccomp_data, byte for byte: 80 bytes.
type Notification struct {
	ID    uint64
	TID   uint32 // the calling thread in the receiver's pid namespace; 0 if it is not visible there
	Flags uint32
	NR    int32
	Arch  uint32 // AUDIT_ARCH_*
	IP    uint64
	Args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	value int64
	errno int32 // negative
	flags uint32
}

// addFD is struct seccomp_notif_addfd.
type addFD struct {
	id         uint64
	flags      uint32
	srcFD      uint32
	newFD      uint32
	newFDFlags uint32
}

func (fd FD) ioctl(request uintptr, arg unsafe.Pointer) (uintptr, unix.Errno) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno != unix.EINTR {
			return n, errno
		}
	}
}

// briefIoctl is ioctl for requests that do not wait, of which the Go runtime need not be told.
func (fd FD) briefIoctl(request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		if _, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != unix.EINTR {
			return errno
		}
	}
}

// Receive takes the next notification into n. It blocks if there is none, so poll first, and let only one thread
// receive from a listener at a time: then a notification that vanishes in between gives ErrGone and does not block.
func (fd FD) Receive(n *Notification) error {
	*n = Notification{}
	_, errno := fd.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
	return ioctlError("RECV", errno)
}

// Poll waits up to timeout milliseconds, for ever if it is negative. It reports whether Receive would have a
// notification, and whether the last filtered task is gone: there will then never be one again.
func (fd FD) Poll(timeout int) (pending, hangup bool, err error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(poll, timeout)
		if err == unix.EINTR || err == nil && poll[0].Revents == unix.POLLERR {
			continue // POLLERR too means that a signal came (seccomp_notify_poll, kernel/seccomp.c)
		}
		if err != nil {
			return false, false, fmt.Errorf("poll of a listener: %w", err)
		}
		return poll[0].Revents&unix.POLLIN != 0, poll[0].Revents&(unix.POLLHUP|unix.POLLNVAL) != 0, nil
	}
}

// Valid reports whether the caller still waits for an answer to the notification.
func (fd FD) Valid(id uint64) bool {
	return fd.briefIoctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == 0
}

// kind is what the link of a listener in /proc/PID/fd says.
const kind = "anon_inode:seccomp notify"

// RequireListener returns an error if the descriptor is something else. It asks procfs: an ioctl would tell too, but on
// a descriptor that is something else it could do anything.
func (fd FD) RequireListener() error {
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("finding out whether the descriptor is a seccomp listener: %w", err)
	}
	if link != kind {
		return fmt.Errorf("the descriptor is %.200q: want a seccomp listener", link)
	}
	return nil
}

// SendValue makes the call return value. Like the other answers it returns ErrGone if nobody waits.
func (fd FD) SendValue(id uint64, value int64) error {
	return fd.send(response{id: id, value: value})
}

// SendErrno makes the call fail with errno, which is positive.
func (fd FD) SendErrno(id uint64, errno unix.Errno) error {
	return fd.send(response{id: id, errno: -int32(errno)})
}

// SendContinue lets the kernel perform the call itself. The caller may have changed its memory since it was looked at:
// it is safe only where the kernel checks the whole call again.
func (fd FD) SendContinue(id uint64) error {
	return fd.send(response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

func (fd FD) send(r response) error {
	return ioctlError("SEND", fd.briefIoctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)))
}

// wakeUpTime is less than it takes a processor to wake a thread up, which then leaves its call.
const wakeUpTime = 4 * time.Microsecond

// SendValueDoubting is SendValue that looks whether the answer may be lost, although the kernel has taken it.
//
// That is so for a caller whose filter has no WAIT_KILLABLE_RECV, which a signal has just woken up, and which waits for
// the lock that SEND has: it does not look at the answer any more, but restarts the call (seccomp_do_user_notification,
// kernel/seccomp.c). Nobody can ask for that. But such a caller runs on another processor, and has left the call when
// SEND returns; one that SEND wakes up takes longer. It may also have woken up in time, and have the answer.
func (fd FD) SendValueDoubting(id uint64, value int64) (doubtful bool, err error) {
	before := time.Now()
	if err := fd.SendValue(id, value); err != nil {
		return false, err
	}
	return fd.left(id) && time.Since(before) < wakeUpTime, nil
}

// left reports whether the caller of a notification that was answered just now has left the call. Else it has not yet
// taken the answer.
func (fd FD) left(id uint64) bool {
	r := response{id: id}
	return fd.briefIoctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) == unix.ENOENT // else EINPROGRESS
}

// SendFD puts the own descriptor src into the caller's table and makes the call return its number, in one step (kernel
// 5.14). It returns that number.
//
// No signal reaches the thread meanwhile: the kernel marks the call as answered before it waits for the caller to take
// the descriptor, and when a signal ends that wait the call returns 0 without one (seccomp_notify_addfd,
// kernel/seccomp.c). The Go runtime sends signals to its threads at any time.
func (fd FD) SendFD(id uint64, src int, closeOnExec bool) (int, error) {
	a := addFD{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SEND, srcFD: uint32(src)}
	if closeOnExec {
		a.newFDFlags = unix.O_CLOEXEC
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := linux.BlockSignals()
	if err != nil {
		return 0, err
	}
	n, errno := fd.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a))
	if err := linux.RestoreSignals(before); err != nil {
		return int(n), err
	}
	return int(n), ioctlError("ADDFD", errno)
}

// SyncWakeUp tells the kernel that caller and supervisor take turns, so that each is woken on the other's processor
// (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, kernel 6.6). The error wraps unix.EINVAL or unix.ENOTTY before that.
func (fd FD) SyncWakeUp() error {
	err := unix.IoctlSetInt(int(fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	if err != nil {
		return fmt.Errorf("SECCOMP_IOCTL_NOTIF_SET_FLAGS: %w", err)
	}
	return nil
}

func ioctlError(name string, errno unix.Errno) error {
	switch errno {
	case 0:
		return nil
	case unix.ENOENT, unix.EINPROGRESS, unix.ESRCH:
		return fmt.Errorf("SECCOMP_IOCTL_NOTIF_%s: %w: %w", name, ErrGone, errno)
	default:
		return fmt.Errorf("SECCOMP_IOCTL_NOTIF_%s: %w", name, errno)
	}
}

// Load loads a filter on the calling OS thread, for good, and returns its listener. Flags are added to NEW_LISTENER;
// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is added where the kernel knows it (5.19): a caller then waits on through
// signals that do not kill it, so that a call is not performed twice. The thread needs CAP_SYS_ADMIN in its user
// namespace, or no_new_privs. EBUSY: the thread has a filter with a listener already.
func Load(program []unix.SockFilter, flags uintptr) (FD, error) {
	fd, err := LoadInterruptible(program, flags|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	if errors.Is(err, unix.EINVAL) {
		return LoadInterruptible(program, flags)
	}
	return fd, err
}

// LoadInterruptible is Load without the flag that it adds.
func LoadInterruptible(program []unix.SockFilter, flags uintptr) (FD, error) {
	if len(program) == 0 || len(program) > unix.BPF_MAXINSNS {
		return -1, fmt.Errorf("load a seccomp filter: %d instructions: want 1 to %d", len(program), unix.BPF_MAXINSNS)
	}
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return -1, fmt.Errorf("load a seccomp filter: %w", errno)
	}
	return FD(fd), nil
}

// CheckWaitKillable fails if the kernel does not know SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV. It gives no filter, so
// that nothing is loaded: the kernel looks at the flags first (EINVAL), and then for the filter (EFAULT).
func CheckWaitKillable() error {
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0)
	if errno != unix.EFAULT {
		return fmt.Errorf("seccomp(2) with SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: %w", errno)
	}
	return nil
}
