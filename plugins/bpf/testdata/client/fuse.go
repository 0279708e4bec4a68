package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of the FUSE protocol (include/uapi/linux/fuse.h).
const (
	fuseOpen      = 14
	fuseFlush     = 25
	fuseInit      = 26
	fuseOutHeader = 16
)

// patience is how long who closes a file waits: longer than a call may take, and no test hangs for ever.
const patience = 9 * time.Second

// serveFUSE answers what it takes to open a file, from descriptor 3. It is a process of its own: one that serves itself
// cannot even be killed.
func serveFUSE(string) error {
	const device = 3
	request := make([]byte, 1<<17)
	for {
		if _, err := unix.Read(device, request); err != nil {
			return err
		}
		operation := binary.NativeEndian.Uint32(request[4:])
		size, known := map[uint32]int{fuseInit: 64, fuseOpen: 16, fuseFlush: 0}[operation]
		if !known {
			continue
		}
		answer := make([]byte, fuseOutHeader+size)
		binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
		copy(answer[8:16], request[8:16])
		wait := time.Duration(0)
		switch operation {
		case fuseInit:
			binary.NativeEndian.PutUint32(answer[fuseOutHeader:], 7)
			binary.NativeEndian.PutUint32(answer[fuseOutHeader+4:], 31)
		case fuseFlush:
			wait = patience
		}
		time.AfterFunc(wait, func() { unix.Write(device, answer) })
	}
}

// mountFUSE mounts a file that a process serves.
func mountFUSE(path string) error {
	device, err := os.OpenFile("/mnt/host/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=100644,user_id=0,group_id=0,allow_other", device.Fd())
	if err := unix.Mount("none", path, "fuse", 0, options); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	server := exec.Command("/proc/self/exe", "serve-fuse", "-")
	server.ExtraFiles = []*os.File{device}
	return server.Start()
}

// fuse gives descriptors of a file of its own filesystem instead of a cgroup, of a program, and of both.
func fuse(dir string) error {
	if err := mountFUSE("/tmp/f"); err != nil {
		return err
	}
	file, err := unix.Open("/tmp/f", unix.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	cgroup, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	for _, call := range []struct {
		what           string
		command        uintptr
		cgroup, second int
	}{{"attach", 8, cgroup, file}, {"detach", 9, file, file}, {"query", 16, file, unix.BPF_CGROUP_DEVICE}} {
		attr := [16]uint32{uint32(call.cgroup), uint32(call.second), unix.BPF_CGROUP_DEVICE}
		if call.what == "query" {
			attr[2] = 0
		}
		_, _, errno := unix.Syscall(unix.SYS_BPF, call.command, uintptr(unsafe.Pointer(&attr)), 32)
		fmt.Printf("%s: %v\n", call.what, errno)
	}
	return nil
}
