package linux

import (
	"os"

	"golang.org/x/sys/unix"
)

// TranslatePID gives the id, in this process's pid namespace, of the thread that has the id tid in the pid namespace ns
// (NS_GET_PID_FROM_PIDNS, ioctl_nsfs(2), kernel 6.11). The error wraps the errno: ESRCH if there is no such thread,
// ENOTTY on an older kernel.
func TranslatePID(ns, tid int) (int, error) {
	translated, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), unix.NS_GET_PID_FROM_PIDNS, uintptr(tid))
	if errno != 0 {
		return 0, os.NewSyscallError("ioctl NS_GET_PID_FROM_PIDNS", errno)
	}
	return int(translated), nil
}

// PIDIn gives the id, in the pid namespace ns, of the thread that has the id tid in this process's pid namespace
// (NS_GET_PID_IN_PIDNS, ioctl_nsfs(2), kernel 6.11). The error wraps the errno: ESRCH if there is no such thread, or it
// is not in ns, ENOTTY on an older kernel.
func PIDIn(ns, tid int) (int, error) {
	translated, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), unix.NS_GET_PID_IN_PIDNS, uintptr(tid))
	if errno != 0 {
		return 0, os.NewSyscallError("ioctl NS_GET_PID_IN_PIDNS", errno)
	}
	return int(translated), nil
}
