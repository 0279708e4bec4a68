package mknod

import (
	"context"
	"errors"
	"fmt"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// A superblock that belongs to a user namespace (a tmpfs that the container or its runtime mounted, as /dev often is,
// or a rootless overlay) takes device nodes, but none on it can be opened (SB_I_NODEV, alloc_super in fs/super.c); an
// overlay does not even take them, since it asks who mounted it. There a node that can be opened is mounted over the
// one that was made. It lies alone on a tmpfs of its own, which lives as long as the mount.

// userMounted are the filesystems that may be mounted in a user namespace and take device nodes (FS_USERNS_MOUNT).
var userMounted = map[int64]bool{
	unix.TMPFS_MAGIC:           true,
	unix.RAMFS_MAGIC:           true,
	unix.OVERLAYFS_SUPER_MAGIC: true,
	unix.FUSE_SUPER_MAGIC:      true,
}

// covering reports whether what was made is to be covered.
type covering uint8

const (
	coverNot       covering = iota
	coverIfRefused          // if the kernel refuses to open it
	coverAlways
)

// mayCover reports whether a node in the directory may have to be covered. Not where the mount has the nodev flag: a
// node that cannot be opened is then what the caller asked for.
func mayCover(dir int) bool {
	var fs unix.Statfs_t
	err := unix.Fstatfs(dir, &fs)
	return err == nil && userMounted[fs.Type] && fs.Flags&unix.ST_NODEV == 0
}

// makeBelow, called in the caller's place, makes the node, or an empty file on a filesystem that takes no nodes.
func (j job) makeBelow(s spot) (covering, error) {
	covers := mayCover(s.dir)
	err := s.mknod(j.mode, j.dev)
	switch {
	case !covers:
		return coverNot, err
	case err == unix.EPERM:
		return coverAlways, s.mknod(unix.S_IFREG|j.mode&^unix.S_IFMT, 0)
	}
	return coverIfRefused, err
}

// finish covers what was made if that is needed, and takes it back if it fails.
func (j job) finish(ctx context.Context, s spot, need covering) (refusal, error) {
	if need == coverNot || need == coverIfRefused && s.openable() {
		return refusal{}, nil
	}
	below := j.take(s)
	if below == nil {
		return refusal{}, nil
	}
	defer below.close()
	refused, err := j.cover(ctx, below)
	if refused.errno == 0 && err == nil {
		return refusal{}, nil
	}
	removeErr := j.remove(s)
	if err != nil {
		return refusal{}, errors.Join(err, removeErr)
	}
	return refused, nil
}

// remove takes away what was made at the spot, also after the call's deadline.
func (j job) remove(s spot) error {
	place, err := j.caller.Place()
	if err != nil {
		return err
	}
	return place.Do(s.lent, func() error { return unix.Unlinkat(s.dir, s.name, 0) })
}

// openable reports whether the node that was made could be opened here.
//
// It asks the kernel without opening the device: the kernel refuses device nodes of such a superblock (EACCES) before
// it looks at O_NOATIME, which is for the owner (EPERM), and at that before it asks the driver (may_open, fs/namei.c).
// This process is not the owner of any node, and has no CAP_FOWNER.
func (s spot) openable() bool {
	fd, err := unix.Openat(s.dir, s.name, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EACCES
}

// made is the file that was made at a spot, held by a descriptor (O_PATH): a name may be another file's the next
// moment.
type made struct {
	fd int
	st unix.Stat_t
}

func (m *made) close() { unix.Close(m.fd) }

// take holds what was made at the spot. It is nil if the name is another file's already: then the caller itself is at
// work there.
func (j job) take(s spot) *made {
	fd, err := unix.Openat(s.dir, s.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	m := &made{fd: fd}
	if err := unix.Fstat(fd, &m.st); err != nil || !j.isNode(m.st) && !isEmptyFile(m.st) {
		m.close()
		return nil
	}
	return m
}

func (j job) isNode(st unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == j.device.kind && st.Rdev == uint64(j.dev)
}

func isEmptyFile(st unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}

// cover mounts a node with the owner and the permissions of m over m. It is refused to a caller whose mounts, or whose
// container's covers, are too many (ENOSPC), or that reached into another mount namespace (through /proc/1/root for
// example), where nothing is mounted (EPERM).
func (j job) cover(ctx context.Context, m *made) (refusal, error) {
	tree, err := j.detachedNode(ctx, m)
	if errors.Is(err, errTooMany) {
		j.covers.warn(j.req.Log())
		return refusal{unix.ENOSPC, tooManyCovers, fmt.Sprintf("%d are there", j.covers.max)}, nil
	}
	if err != nil {
		return refusal{}, fmt.Errorf("make a node to mount: %w", err)
	}
	defer unix.Close(tree)
	var errno unix.Errno
	err = j.caller.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		errno = toErrno(unix.MoveMount(tree, "", m.fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
		return nil
	})
	switch {
	case err != nil || errno == 0:
		return refusal{}, err
	case errno == unix.ENOSPC:
		return refusal{errno, tooManyMounts, ""}, nil
	default:
		return refusal{unix.EPERM, notCovered, "move_mount: " + unix.ErrnoName(errno)}, nil
	}
}

// scratch is where a node's tmpfs is mounted for a moment, in a mount namespace of one thread.
const scratch = "/proc"

// detachedNode makes the node on a tmpfs of its own and returns it as a detached mount.
func (j job) detachedNode(ctx context.Context, m *made) (tree int, err error) {
	// It is owned by the initial user namespace. Its root gives the node its group.
	tmpfs := func() (int, error) { return j.caller.NewNodeTmpfs(m.st.Gid) }
	fs, err := j.covers.newFilesystem(tmpfs, func(key string, value []byte) error { return j.req.Keep(ctx, key, value) })
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	err = j.caller.Do(target.CapabilitySet(unix.CAP_MKNOD, unix.CAP_FSETID), func() error {
		unix.Umask(0)
		return unix.Mknodat(fs, "node", j.device.kind|m.st.Mode&^unix.S_IFMT, j.dev)
	})
	if err != nil {
		return -1, err
	}
	done := make(chan struct{})
	target.GoOnThread(func() {
		defer close(done)
		tree, err = cloneFile(fs, "node")
	})
	<-done
	return tree, err
}

// cloneFile mounts fs in a mount namespace of the calling thread, since only a file below an attached mount can be
// cloned before kernel 6.15, and returns a detached mount of the file. The thread is to end.
func cloneFile(fs int, name string) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		return -1, fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.MoveMount(fs, "", unix.AT_FDCWD, scratch, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, fmt.Errorf("move_mount: %w", err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, scratch+"/"+name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	return tree, nil
}
