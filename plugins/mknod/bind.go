package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// A superblock that belongs to a user namespace (a tmpfs that the container or its runtime mounted, as /dev often is, or
// a rootless overlay) takes device nodes, but none on it can be opened (SB_I_NODEV, alloc_super in fs/super.c); an
// overlay does not even take them, since it asks who mounted it. There a node that can be opened is mounted over the one
// that was made. It lies alone on a tmpfs of its own, which lives as long as the mount.

// made is the file at the spot, held by a descriptor (O_PATH): a path may be another file's the next moment.
type made struct {
	file           *os.File
	st             unix.Stat_t
	mountedByUsers bool // the filesystem's type may be mounted in a user namespace
	nodev          bool // the mount has the flag
}

// userMounted are the filesystems that may be mounted in a user namespace and take device nodes (FS_USERNS_MOUNT).
var userMounted = map[int64]bool{
	unix.TMPFS_MAGIC:           true,
	unix.RAMFS_MAGIC:           true,
	unix.OVERLAYFS_SUPER_MAGIC: true,
	unix.FUSE_SUPER_MAGIC:      true,
}

// take holds the file at the spot. It runs in the caller's place.
func take(s spot) (*made, error) {
	fd, err := unix.Openat(s.dir, s.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	m := &made{file: os.NewFile(uintptr(fd), s.path)}
	var fs unix.Statfs_t
	if err := unix.Fstat(fd, &m.st); err != nil {
		m.close()
		return nil, err
	}
	if err := unix.Fstatfs(fd, &fs); err != nil {
		m.close()
		return nil, err
	}
	m.mountedByUsers = userMounted[fs.Type]
	m.nodev = fs.Flags&unix.ST_NODEV != 0
	return m, nil
}

func (m *made) close() { m.file.Close() }

// openable says whether a device node could be opened here; a regular file is none.
//
// It asks the kernel without opening the device: the kernel refuses device nodes of such a
// superblock (EACCES) before it looks at O_NOATIME, which is for the owner (EPERM), and at that before it asks the driver
// (may_open, fs/namei.c). This process is no node's owner, and has no CAP_FOWNER.
func (m *made) openable() bool {
	if m.st.Mode&unix.S_IFMT == unix.S_IFREG {
		return false
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", m.file.Fd()), unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EACCES
}

// placeholder is for a filesystem that takes no device nodes: it makes a regular file for the node to stand over. The
// kernel's EPERM stands where that is not the reason.
func (n node) placeholder(t *target.Target, s spot) (*made, unix.Errno, error) {
	var file *made
	var errno unix.Errno
	err := t.Do(s.lent, func() error {
		if errno = toErrno(unix.Mknodat(s.dir, s.path, unix.S_IFREG|n.mode&^unix.S_IFMT, 0)); errno != 0 {
			return nil
		}
		var err error
		if file, err = take(s); err == nil && file.usable() {
			return nil
		}
		errno = unix.EPERM
		return unix.Unlinkat(s.dir, s.path, 0)
	})
	if file != nil && (err != nil || errno != 0) {
		file.close()
		file = nil
	}
	return file, errno, err
}

// usable says whether a node may stand over the file that was just made.
func (m *made) usable() bool {
	return m.st.Mode&unix.S_IFMT == unix.S_IFREG && m.st.Size == 0 && m.mountedByUsers && !m.nodev
}

// bindOver mounts a node with the owner and the permissions of m over m.
func (n node) bindOver(t *target.Target, m *made) error {
	tree, err := n.detachedNode(t, m)
	if err != nil {
		return fmt.Errorf("make a node to mount: %w", err)
	}
	defer unix.Close(tree)
	err = t.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		return unix.MoveMount(tree, "", int(m.file.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	})
	if err != nil {
		return fmt.Errorf("mount the node: %w", err)
	}
	return nil
}

// scratch is where a node's tmpfs is mounted for a moment, in a mount namespace of one thread.
const scratch = "/dev"

// detachedNode makes the node on a tmpfs of its own and returns it as a detached mount.
func (n node) detachedNode(t *target.Target, m *made) (tree int, err error) {
	fs, err := mountTmpfs()
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	err = t.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
		unix.Umask(0)
		return unix.Mknodat(fs, "node", n.device.kind|m.st.Mode&^unix.S_IFMT, n.dev)
	})
	if err != nil {
		return -1, err
	}
	onOwnThread(func() { tree, err = cloneFile(fs, "node") })
	return tree, err
}

// mountTmpfs makes a tmpfs for one node, owned by the initial user namespace, as a detached mount.
func mountTmpfs() (int, error) {
	context, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen tmpfs: %w", err)
	}
	defer unix.Close(context)
	for _, option := range [][2]string{{"source", "intercede"}, {"mode", "0777"}, {"nr_inodes", "2"}, {"size", "4k"}} {
		if err := unix.FsconfigSetString(context, option[0], option[1]); err != nil {
			return -1, fmt.Errorf("fsconfig %s=%s: %w", option[0], option[1], err)
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return -1, fmt.Errorf("fsconfig create: %w", err)
	}
	fs, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return fs, nil
}

// cloneFile mounts fs in a mount namespace of the calling thread, since only a file below an attached mount can be
// cloned before kernel 6.15, and returns a detached mount of the file. The thread is to be thrown away.
func cloneFile(fs int, name string) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
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

// onOwnThread runs fn on an OS thread that ends with it.
func onOwnThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		fn()
	}()
	<-done
}
