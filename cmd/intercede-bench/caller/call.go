package caller

import (
	"errors"
	"fmt"
	"os"
	"runtime"
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

// Setxattr sets an extended attribute of one byte on a directory, which it makes if it is not there.
func Setxattr(dir, attribute string, value byte) (Call, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Call{}, err
	}
	path, err1 := unix.BytePtrFromString(dir)
	name, err2 := unix.BytePtrFromString(attribute)
	return Call{Make: func() unix.Errno {
		_, _, errno := unix.RawSyscall6(unix.SYS_SETXATTR, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(name)),
			uintptr(unsafe.Pointer(&value)), 1, 0, 0)
		return errno
	}}, errors.Join(err1, err2)
}

// Setscheduler is sched_setscheduler(2) with SCHED_FIFO, of another thread of this process, which sleeps.
func Setscheduler(priority int32) (call Call, thread int) {
	tid := make(chan int)
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		select {}
	}()
	thread = <-tid
	return Call{Make: func() unix.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(thread), unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority)))
		return errno
	}}, thread
}

// Mount is mount(2) without data.
func Mount(source, target, kind string, flags uintptr) (Call, error) {
	from, err1 := unix.BytePtrFromString(source)
	to, err2 := unix.BytePtrFromString(target)
	filesystem, err3 := unix.BytePtrFromString(kind)
	return Call{
		Make: func() unix.Errno {
			_, _, errno := unix.RawSyscall6(unix.SYS_MOUNT, uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(to)),
				uintptr(unsafe.Pointer(filesystem)), flags, 0, 0)
			return errno
		},
		Undo: func() error { return unix.Unmount(target, 0) },
	}, errors.Join(err1, err2, err3)
}

// deviceProgram is r0 = 1; exit.
var deviceProgram = struct {
	instructions [2]uint64
	license      [1]byte
}{instructions: [2]uint64{1<<32 | 0xb7, 0x95}}

// LoadDeviceProgram is bpf(2) with BPF_PROG_LOAD of a device program of two instructions, which allows all.
func LoadDeviceProgram() Call {
	// union bpf_attr (include/uapi/linux/bpf.h); it names the rest by its address, which does not change.
	attr := struct {
		kind, count           uint32
		instructions, license uint64
		rest                  [12]uint64
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(deviceProgram.instructions)),
		instructions: uint64(uintptr(unsafe.Pointer(&deviceProgram.instructions))),
		license:      uint64(uintptr(unsafe.Pointer(&deviceProgram.license))),
	}
	var fd uintptr
	return Call{
		Make: func() (errno unix.Errno) {
			fd, _, errno = unix.RawSyscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
			return errno
		},
		Undo: func() error { return unix.Close(int(fd)) },
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
