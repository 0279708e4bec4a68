package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
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

// serveFUSE answers what it takes to open a file. Who closes one waits until patience is over.
func serveFUSE(device int, patience <-chan struct{}) {
	request := make([]byte, 1<<17)
	for {
		if _, err := unix.Read(device, request); err != nil {
			return
		}
		operation := binary.NativeEndian.Uint32(request[4:])
		size, known := map[uint32]int{fuseInit: 64, fuseOpen: 16, fuseFlush: 0}[operation]
		if !known {
			continue
		}
		if operation == fuseFlush {
			<-patience
		}
		answer := make([]byte, fuseOutHeader+size)
		binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
		copy(answer[8:16], request[8:16])
		if size == 64 {
			binary.NativeEndian.PutUint32(answer[fuseOutHeader:], 7)
			binary.NativeEndian.PutUint32(answer[fuseOutHeader+4:], 31)
		}
		unix.Write(device, answer)
	}
}

// fuse gives descriptors of a file of its own filesystem in the place of a cgroup, of a program, and of both.
func fuse(dir string) error {
	device, err := unix.Open("/mnt/host/fuse", unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := os.WriteFile("/tmp/f", nil, 0o644); err != nil {
		return err
	}
	if err := unix.Mount("none", "/tmp/f", "fuse", 0, fmt.Sprintf("fd=%d,rootmode=100644,user_id=0,group_id=0,allow_other", device)); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	patience := make(chan struct{})
	go serveFUSE(device, patience)
	// A caller that hangs is not to hold up the test for ever.
	var once sync.Once
	end := func() { once.Do(func() { close(patience) }) }
	time.AfterFunc(15*time.Second, end)
	defer end()
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
