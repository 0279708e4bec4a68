package caller

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call that can be made again and again. Neither it nor Undo may allocate memory: it is measured.
type Call struct {
	// Make makes it, as one raw system call.
	Make func() unix.Errno
	// Undo takes back what a successful Make did, so that the next finds the same; nil if there is nothing.
	Undo func() error
	// Show makes it once, takes it back, and says what came of it; nil where nobody asks.
	Show func() string
}

// Getppid is getppid(2), the least that a call can do.
func Getppid() Call {
	return Call{Make: func() unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		return errno
	}}
}

// Getpgid is getpgid(2) of the caller.
func Getpgid() Call {
	return Call{Make: func() unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_GETPGID, 0, 0, 0)
		return errno
	}}
}

// Sysinfo is sysinfo(2).
func Sysinfo() Call {
	info := new(unix.Sysinfo_t)
	return Call{Make: func() unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_SYSINFO, uintptr(unsafe.Pointer(info)), 0, 0)
		return errno
	}}
}

// Mknod is mknod(2) of a character device node with mode 0666.
func Mknod(path string, major, minor uint32) Call {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		panic(fmt.Sprintf("path %q: %v", path, err)) // callers give constants
	}
	dirFD, device := unix.AT_FDCWD, unix.Mkdev(major, minor)
	return Call{
		Make: func() unix.Errno {
			_, _, errno := unix.RawSyscall6(unix.SYS_MKNODAT, uintptr(dirFD), uintptr(unsafe.Pointer(name)),
				unix.S_IFCHR|0o666, uintptr(device), 0, 0)
			return errno
		},
		Undo: func() error { return removeNode(path) },
	}
}

// removeNode removes a node, which may be one that is mounted over another.
func removeNode(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("umount %s: %w", path, err)
	}
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("unlink %s: %w", path, err)
	}
	return nil
}
