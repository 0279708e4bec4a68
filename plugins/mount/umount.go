package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// umountFlags are those of umount2(2) (path_umount, fs/namespace.c).
const umountFlags = unix.MNT_FORCE | unix.MNT_DETACH | unix.MNT_EXPIRE | unix.UMOUNT_NOFOLLOW

// umount answers an umount2(2) with MNT_FORCE, for which the kernel asks for CAP_SYS_ADMIN in the user namespace of the
// superblock (can_umount, fs/namespace.c), of one that this plugin made for the container.
//
// MNT_FORCE is for filesystems that wait for a server (umount_begin, struct super_operations); none of a block device
// does. All that is left of it is that it does not go with MNT_EXPIRE (do_umount). So it is left out, and the kernel
// does what the caller may do by itself: whatever the path leads to by then, the caller gains nothing.
func (s *session) umount(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	path, fault := req.Path(0)
	flags := req.Uint32(1)
	switch {
	case s.mounted.none() && len(s.left) == 0:
		return next(foreignSuperblock, "")
	case fault != 0, flags&^umountFlags != 0:
		return next(badArguments, "")
	}
	caller, err := s.mounter(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	own, err := s.isOwnMount(ctx, caller, path, flags&unix.UMOUNT_NOFOLLOW == 0)
	if err != nil {
		return sdk.Response{}, err
	}
	if !own {
		return next(foreignSuperblock, "")
	}
	if flags&unix.MNT_EXPIRE != 0 {
		return sdk.Errno(unix.EINVAL).Because(badArguments, "MNT_FORCE with MNT_EXPIRE"), nil
	}
	parent, entry, err := openParent(ctx, caller, withoutDots(path))
	if err != nil {
		return sdk.Response{}, err
	}
	defer parent.Close()
	if err := req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	refused, err := umountIn(caller, parent, entry, int(flags&^unix.MNT_FORCE))
	if err != nil || refused != nil {
		return sdk.Response{}, errors.Join(err, refused)
	}
	return sdk.Return(0), nil
}

// isOwnMount reports whether the path leads to the root of a mount of a superblock that this plugin made.
func (s *session) isOwnMount(ctx context.Context, caller *target.Target, path string, follow bool) (bool, error) {
	at, err := openPathAt(ctx, caller, unix.AT_FDCWD, path, follow)
	if err != nil {
		return false, err
	}
	defer at.Close() // with it the mount would be busy
	sb, isRoot, err := s.superblockAt(int(at.Fd()))
	return sb != nil && isRoot, err
}

// withoutDots is the path without components "." at its end, which name the directory before them.
func withoutDots(path string) string {
	rest := strings.TrimRight(path, "/")
	for strings.HasSuffix(rest, "/.") {
		rest = strings.TrimRight(strings.TrimSuffix(rest, "."), "/")
	}
	if rest == "" {
		return path
	}
	return rest
}

// openParent opens (O_PATH) the directory in which the path names the mount point, and gives the name in it.
func openParent(ctx context.Context, caller *target.Target, path string) (*os.File, string, error) {
	var fd int
	var entry string
	var refused error
	err := caller.Do(0, func() error {
		fd, entry, refused = target.OpenParentHere(unix.AT_FDCWD, path)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	parent := os.NewFile(uintptr(fd), "parent")
	if refused != nil && target.MayNeedPower(refused) {
		const search = 1 // MAY_EXEC
		parent, entry, refused = caller.OpenParent(ctx, unix.AT_FDCWD, path, search)
	}
	if refused != nil {
		return nil, "", refuse(refused)
	}
	var st unix.Stat_t
	name := strings.TrimRight(entry, "/")
	err = unix.Fstatat(int(parent.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
	// A link that is followed would be followed by this process.
	if name == "" || name == "." || name == ".." || err != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		parent.Close()
		return nil, "", handBack{badArguments, fmt.Sprintf("%q is not the name of a directory", entry)}
	}
	return parent, name, nil
}

// umountIn makes the call in the caller's place. The directory becomes the root, since umount(2) of the root's own
// mount makes the superblock read-only instead (do_umount_root, fs/namespace.c).
func umountIn(caller *target.Target, parent *os.File, name string, flags int) (refused, err error) {
	err = caller.Do(stand|target.CapabilitySet(unix.CAP_SYS_CHROOT), func() error {
		if err := unix.Fchdir(int(parent.Fd())); err != nil {
			return err
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
		refused = unix.Unmount(name, flags|unix.UMOUNT_NOFOLLOW)
		return nil
	})
	return refuse(refused), err
}
