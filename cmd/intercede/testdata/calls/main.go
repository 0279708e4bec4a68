// Command calls makes system calls that no program of a small container makes, and says what came of each.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

var calls = map[string]func(args []string) (string, error){
	"setxattr": setxattr,
	"sched":    sched,
	"bpf":      bpf,
	"fsmount":  fsmount,
	"sysinfo":  sysinfo,
}

func main() {
	call := calls[os.Args[1]]
	result, err := call(os.Args[2:])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(result)
}

// setxattr sets an attribute of a file: by default the one that hides lower directories in an overlay.
func setxattr(args []string) (string, error) {
	name, value := "trusted.overlay.opaque", "y"
	if len(args) > 1 {
		name, value = args[1], args[2]
	}
	return "set", unix.Lsetxattr(args[0], name, []byte(value), 0)
}

// sysinfo tells how much memory there is.
func sysinfo([]string) (string, error) {
	var info unix.Sysinfo_t
	err := unix.Sysinfo(&info)
	return fmt.Sprintf("%d KiB", info.Totalram*uint64(info.Unit)/1024), err
}

// sched makes this thread a real-time one, and tells what the kernel says of it then.
func sched([]string) (string, error) {
	runtime.LockOSThread()
	param := struct{ priority int32 }{5}
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param))); errno != 0 {
		return "", errno
	}
	policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	if errno != 0 {
		return "", errno
	}
	return fmt.Sprintf("policy %d", policy), nil
}

// bpf loads a device program, looks at the descriptor, and attaches and detaches the program at a cgroup.
func bpf(args []string) (string, error) {
	program := []uint64{0xb7 | 1<<32, 0x95} // r0 = 1; exit
	license := []byte("GPL\x00")
	attr := struct {
		kind, count      uint32
		program, license uint64
		rest             [13]uint64
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(program)),
		program: uint64(uintptr(unsafe.Pointer(&program[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return "", errno
	}
	flags, err1 := unix.FcntlInt(fd, unix.F_GETFD, 0)
	kind, err2 := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	return fmt.Sprintf("%s close-on-exec %d", kind, flags), errors.Join(err1, err2, attach(int(fd), args[0]))
}

func attach(program int, cgroup string) error {
	dir, err := unix.Open(cgroup, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	attr := struct{ target, program, kind, flags uint32 }{uint32(dir), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI}
	for _, command := range []uintptr{unix.BPF_PROG_ATTACH, unix.BPF_PROG_DETACH} {
		if _, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
			return fmt.Errorf("bpf command %d: %w", command, errno)
		}
		attr.flags = 0
	}
	return nil
}

// fsmount mounts an ext4 filesystem with the newer calls.
func fsmount(args []string) (string, error) {
	context, err1 := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	err2 := unix.FsconfigSetString(context, "source", args[0])
	err3 := unix.FsconfigCreate(context)
	mount, err4 := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	err5 := unix.MoveMount(mount, "", unix.AT_FDCWD, args[1], unix.MOVE_MOUNT_F_EMPTY_PATH)
	return "mounted", errors.Join(err1, err2, err3, err4, err5)
}
