package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// source is the block device to be mounted.
type source struct {
	name     string // as the caller gave it
	dev      uint64
	writable bool // by the caller
}

// findSource finds the block device that the caller names, which must be in `devices` and open to the caller itself: for writing too,
// unless the mount is read-only.
func (s *session) findSource(ctx context.Context, caller *target.Target, name string, readOnly bool) (*source, error) {
	node, dev, err := openNode(ctx, caller, name)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	if !s.policy.allowsDevice(dev) {
		s.warn("mount of block device %d:%d is refused: it is not in devices", unix.Major(dev), unix.Minor(dev))
		return nil, refusal{unix.EPERM}
	}
	src := &source{name: name, dev: dev}
	err = openDevice(ctx, caller, node, dev, unix.O_RDWR)
	if src.writable = err == nil; readOnly && isRefusal(err) {
		err = openDevice(ctx, caller, node, dev, unix.O_RDONLY)
	}
	return src, err
}

// openNode opens (O_PATH) the node of a block device. The errors are in the order of the kernel's (lookup_bdev, block/bdev.c).
func openNode(ctx context.Context, caller *target.Target, name string) (node *os.File, dev uint64, err error) {
	if node, err = openPath(ctx, caller, name); err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(node.Fd()), &st); err != nil {
		err = fmt.Errorf("fstat of the source: %w", err)
	} else if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		err = refusal{unix.ENOTBLK}
	}
	if err != nil {
		node.Close()
		return nil, 0, err
	}
	return node, uint64(st.Rdev), nil
}

// openDevice opens the device of a node as the caller would, in its cgroups, and closes it. The kernel does not ask the device cgroup
// for a superblock that is there already.
func openDevice(ctx context.Context, caller *target.Target, node *os.File, dev uint64, mode int) error {
	fd, err := caller.Reopen(ctx, int(node.Fd()), mode|unix.O_NONBLOCK)
	if errors.Is(err, unix.EBUSY) {
		// Without CONFIG_BLK_DEV_WRITE_MOUNTED (kernel 6.8) nobody may write to a mounted device. Permissions and the device cgroup have been
		// asked by then (blkdev_open, block/fops.c).
		return nil
	}
	if err != nil {
		return refuse(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat of the device: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(st.Rdev) != dev {
		return fmt.Errorf("the node of device %d:%d opened as mode %#o, device %d:%d", unix.Major(dev), unix.Minor(dev), st.Mode, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	return nil
}
