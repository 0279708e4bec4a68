package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// openPath opens (O_PATH) what the caller names, as it would: by its ids, or else by its own power and through the links of
// procfs.
func openPath(ctx context.Context, caller *target.Target, path string) (*os.File, error) {
	return openPathAt(ctx, caller, unix.AT_FDCWD, path, true)
}

// openPathAt is openPath from a directory.
func openPathAt(ctx context.Context, caller *target.Target, dir int, path string, follow bool) (*os.File, error) {
	var file *os.File
	var refused error
	err := caller.Do(0, func() error {
		file, refused = target.OpenPathHere(dir, path, follow)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case refused == nil:
		return file, nil
	case !errors.Is(refused, unix.EACCES) && !errors.Is(refused, unix.ENOENT) && !errors.Is(refused, unix.ELOOP):
		return nil, refuse(refused)
	}
	file, err = caller.OpenPath(ctx, dir, path, follow)
	return file, refuse(err)
}

// source is the block device to be mounted.
type source struct {
	name     string // as the caller gave it
	dev      uint64
	writable bool // by the caller
}

// openSource finds the block device that the caller names, which it must be able to open itself: for writing too, unless
// the mount is read-only. The errors are in the order of the kernel's (lookup_bdev, block/bdev.c).
func (s *session) openSource(ctx context.Context, caller *target.Target, name string, readOnly bool) (*source, error) {
	file, err := openPath(ctx, caller, name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, fmt.Errorf("fstat of the source: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, refusal{unix.ENOTBLK}
	}
	if !opensDevices(file) {
		return nil, refusal{unix.EACCES}
	}
	src := &source{name: name, dev: uint64(st.Rdev)}
	err = access(ctx, caller, file, unix.R_OK|unix.W_OK)
	if src.writable = err == nil; !src.writable && readOnly {
		err = access(ctx, caller, file, unix.R_OK)
	}
	if err != nil {
		return nil, refuse(err)
	}
	if !s.policy.allowsDevice(src.dev) {
		s.warn("mount of block device %d:%d is refused: it is not in devices", unix.Major(src.dev), unix.Minor(src.dev))
		return nil, refusal{unix.EPERM}
	}
	return src, nil
}

// access asks whether the caller may use the file, by its ids, or else by its own power.
func access(ctx context.Context, caller *target.Target, file *os.File, mode uint32) error {
	var refused unix.Errno
	err := caller.Do(0, func() error {
		_, _, refused = unix.Syscall6(unix.SYS_FACCESSAT2, file.Fd(), uintptr(unsafe.Pointer(&[1]byte{})), uintptr(mode), unix.AT_EACCESS|unix.AT_EMPTY_PATH, 0, 0)
		return nil
	})
	if err != nil || refused == 0 {
		return err
	}
	return caller.Access(ctx, int(file.Fd()), mode)
}

// opensDevices says whether a device node of the file's mount can be opened (may_open_dev, fs/namei.c), without opening
// it: the kernel looks at O_NOATIME, which is for the owner, after that and before it asks the driver.
func opensDevices(file *os.File) bool {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()), unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EACCES
}

// mountID is the id of the mount that an open file is on (proc_pid_fdinfo(5)), without asking its filesystem.
func mountID(fd int) (uint64, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		var id uint64
		if n, _ := fmt.Sscanf(line, "mnt_id: %d", &id); n == 1 {
			return id, nil
		}
	}
	return 0, errors.New("fdinfo without a line mnt_id")
}
