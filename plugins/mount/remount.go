package mount

import (
	"context"
	"fmt"
	"slices"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// remount answers a mount(2) that changes a superblock, if this plugin made it for this container. The kernel refuses
// every other itself.
func (s *session) remount(ctx context.Context, req *sdk.Request, flags msFlags) (sdk.Response, error) {
	if s.mounted.none() && len(s.left) == 0 {
		return next(foreignSuperblock, "")
	}
	caller, err := s.mounter(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	c, err := decode(ctx, req, flags)
	if err != nil {
		return sdk.Response{}, err
	}
	at, err := openPath(ctx, caller, c.target)
	if err != nil {
		return sdk.Response{}, err
	}
	defer at.Close()
	sb, isRoot, err := s.superblockAt(int(at.Fd()))
	if err != nil {
		return sdk.Response{}, err
	}
	if sb == nil {
		return next(foreignSuperblock, "")
	}
	if !isRoot {
		return sdk.Errno(unix.EINVAL).Because(badArguments, "the target is not the root of a mount"), nil // do_remount: the target is not the root of a mount
	}
	options, err := s.vetRemount(ctx, caller, c, sb)
	if err != nil {
		return sdk.Response{}, err
	}
	if err := req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	if err := reconfigure(caller, int(at.Fd()), flags|s.policy.lockedFlags(), joinOptions(options)); err != nil {
		return sdk.Response{}, err
	}
	sb.readOnly.Store(isReadOnly(append(flags.superblockOptions(), options...)))
	s.keep(ctx, req, sb)
	return sdk.Return(0), nil
}

// superblockAt is the superblock of an open file, if this plugin made it, and reports whether the file is the root of a
// mount.
func (s *session) superblockAt(fd int) (*superblock, bool, error) {
	var st unix.Statx_t
	// FUSE refuses a process that is not in its user namespace, unless that asks for nothing (fuse_getattr,
	// fs/fuse/dir.c).
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return nil, false, fmt.Errorf("statx of the target: %w", err)
	}
	dev, isRoot := unix.Mkdev(st.Dev_major, st.Dev_minor), st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	sb, err := s.mounted.get(dev)
	if sb == nil && err == nil {
		sb, err = s.revive(fd, dev)
	}
	if sb == nil || err != nil {
		return nil, false, err
	}
	return sb, isRoot, nil
}

// vetRemount checks the options, and that the caller may write to the device unless flags and options both say
// read-only: a filesystem of the kernel's old mount interface does not look for "ro" among its options.
func (s *session) vetRemount(ctx context.Context, caller *target.Target, c call, sb *superblock) ([]option, error) {
	options := slices.DeleteFunc(parseOptions(c.data), s.isShown)
	for i, o := range options {
		var err error
		if options[i], err = s.vetOption(sb.filesystem, o); err != nil {
			return nil, err
		}
	}
	if c.flags.has(unix.MS_RDONLY) && isReadOnly(append(c.flags.superblockOptions(), options...)) {
		return options, nil
	}
	return options, mayWrite(ctx, caller, sb)
}

// isShown reports whether an option is none: the kernel shows it among those of a mount that is idmapped
// (show_mnt_opts, fs/proc_namespace.c), from where mount(8) passes it back.
func (s *session) isShown(o option) bool { return s.policy.shift && o == (option{key: "idmapped"}) }

// reconfigure performs the remount on the very mount that is open, by way of the working directory: a path may lead
// elsewhere the next moment.
func reconfigure(caller *target.Target, at int, flags msFlags, data string) error {
	var refused error
	err := caller.Do(stand, func() error {
		if refused = unix.Fchdir(at); refused == nil {
			refused = unix.Mount("", ".", "", uintptr(flags), data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return refuse(refused)
}
