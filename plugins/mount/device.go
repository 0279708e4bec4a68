package mount

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
	name string // as the caller gave it
	dev  uint64
}

// findSource finds the block device that the caller names, which must be in `devices` and open to the caller itself.
func (s *session) findSource(ctx context.Context, caller *target.Target, f *filesystem, name string, readOnly bool) (*source, error) {
	node, dev, err := openNode(ctx, caller, name)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	if !s.policy.allowsDevice(dev) {
		s.warn("mount of block device %d:%d is refused: it is not in devices", unix.Major(dev), unix.Minor(dev))
		return nil, refusal{unix.EPERM, deviceNotListed, deviceText(dev)}
	}
	if err := mayUse(ctx, caller, node, dev, f, readOnly); err != nil {
		return nil, err
	}
	return &source{name, dev}, nil
}

// mayWrite refuses a caller that cannot, at this moment, open the device of a superblock for writing. The name that it
// was mounted by must still lead to the device.
func mayWrite(ctx context.Context, caller *target.Target, sb *superblock) error {
	node, dev, err := openNode(ctx, caller, sb.source.name)
	if isRefusal(err) {
		return refusal{unix.EACCES, sourceGone, ""}
	}
	if err != nil {
		return err
	}
	defer node.Close()
	if dev != sb.source.dev {
		return refusal{unix.EACCES, sourceGone, ""}
	}
	return mayUse(ctx, caller, node, dev, sb.filesystem, false)
}

// openNode opens (O_PATH) the node of a block device. The errors are in the order of the kernel's (lookup_bdev,
// block/bdev.c).
func openNode(ctx context.Context, caller *target.Target, name string) (node *os.File, dev uint64, err error) {
	if node, err = openPath(ctx, caller, name); err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(node.Fd()), &st); err != nil {
		err = fmt.Errorf("fstat of the source: %w", err)
	} else if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		err = refusal{unix.ENOTBLK, badArguments, "the source is not a block device"}
	}
	if err != nil {
		node.Close()
		return nil, 0, err
	}
	return node, uint64(st.Rdev), nil
}

// mayUse refuses a caller that cannot open the device of a node as the filesystem uses it: for writing too, unless
// nothing can be written. A read-only mount is not enough for that: most filesystems replay a journal, clear orphans or
// note errors.
func mayUse(ctx context.Context, caller *target.Target, node *os.File, dev uint64, f *filesystem, readOnly bool) error {
	if readOnly && neverWrite[f.name] {
		_, err := openDevice(ctx, caller, node, dev, unix.O_RDONLY)
		return err
	}
	_, refused := openDevice(ctx, caller, node, dev, unix.O_RDWR)
	if !readOnly || !isRefusal(refused) {
		return refused
	}
	locked, err := openDevice(ctx, caller, node, dev, unix.O_RDONLY)
	if isRefusal(err) || err == nil && !locked {
		return refused
	}
	return err
}

// openDevice opens the device of a node as the caller would, in its cgroups, and closes it. It reports whether the
// device is read-only for everybody. The kernel itself does not ask the device cgroup for a superblock that is there
// already, nor on a change to read-write.
func openDevice(ctx context.Context, caller *target.Target, node *os.File, dev uint64, mode int) (locked bool, err error) {
	fd, err := caller.Reopen(ctx, int(node.Fd()), mode|unix.O_NONBLOCK)
	if errors.Is(err, unix.EBUSY) {
		// Without CONFIG_BLK_DEV_WRITE_MOUNTED (kernel 6.8) nobody may write to a mounted device. Permissions and the
		// device cgroup have been asked by then (blkdev_open, block/fops.c).
		return false, nil
	}
	if err != nil {
		return false, refuseAs(err, deviceNotOpened, deviceText(dev))
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, fmt.Errorf("fstat of the device: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(st.Rdev) != dev {
		return false, fmt.Errorf("the node of block device %#x opened as device %#x, mode %#o", dev, st.Rdev, st.Mode)
	}
	value, err := unix.IoctlGetUint32(fd, unix.BLKROGET)
	if err != nil {
		return false, fmt.Errorf("BLKROGET of device %d:%d: %w", unix.Major(dev), unix.Minor(dev), err)
	}
	return value != 0, nil
}
