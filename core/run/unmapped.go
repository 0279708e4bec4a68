package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// The root filesystem of a host can be an overlay, as in a container that is used like a host. Most kernels cannot idmap
// an overlay (FS_ALLOW_IDMAP is missing in fs/overlayfs/super.c; not in 7.3), but it can be the lower layer of another
// one. Its files are then the host's: nobody's in the container, which has of them what everybody has. That is less than
// with an idmap and never more. So that the container's root has where to write, the root directory, and the directories in it that
// belong to root, are its own: an overlay takes owner and mode of a directory from its upper layer, which is the
// container's. Two overlays are as deep as the kernel allows (FILESYSTEM_MAX_STACK_DEPTH, include/linux/fs.h).

// warnUnmapped says what the container lacks because of its root filesystem.
func (o *Options) warnUnmapped() {
	if o.Warn == nil {
		return
	}
	o.Warn(fmt.Sprintf("%s is an overlay, whose files cannot be given to the container's root: they belong to nobody there, and it can "+
		"change them as little as other users can; --rootfs DIR on ext4, xfs, btrfs or tmpfs has no such limit", o.rootDir()))
}

// rootDir is the directory that becomes the container's root.
func (o *Options) rootDir() string {
	if o.Rootfs == "" {
		return "/"
	}
	return o.Rootfs
}

// discards reports whether changes to the root filesystem are discarded.
func (o *Options) discards() bool { return o.Rootfs == "" || o.Ephemeral }

func isOverlay(dir string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(dir, &stat) == nil && stat.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// lowerTree returns what is the lower layer of a discarded root filesystem, and reports whether its files belong to the
// container.
func lowerTree(dir string, userNamespace int) (tree *os.File, mapped bool, err error) {
	tree, err = idmappedTree(dir, dir, userNamespace, 0)
	if !errors.Is(err, unix.EINVAL) || !isOverlay(dir) {
		return tree, true, err
	}
	tree, err = linux.CloneMount(dir, 0)
	if err != nil {
		return nil, false, fmt.Errorf("root filesystem: %w", err)
	}
	return tree, false, nil
}

// giveDirectories makes, in the working directory, the directories in lower that belong to root in upper too, where
// they are the container's root's.
func giveDirectories(owner hostOwner) error {
	entries, err := os.ReadDir("lower")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if stat := info.Sys().(*syscall.Stat_t); !info.IsDir() || stat.Uid != 0 {
			continue
		}
		made := filepath.Join("upper", entry.Name())
		if err := errors.Join(unix.Mkdir(made, 0o700), unix.Chown(made, owner.uid, owner.gid), unix.Chmod(made, modeBits(info))); err != nil {
			return fmt.Errorf("make directory %s: %w", made, err)
		}
	}
	return unix.Chown("upper", owner.uid, owner.gid)
}

// modeBits are permissions with the setuid, setgid and sticky bits, as chmod(2) takes them.
func modeBits(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Mode & 0o7777 }

// hostOwner are the host's ids of the container's root.
type hostOwner struct{ uid, gid int }

func (o *Options) hostOwner() (hostOwner, error) {
	uids, gids, err := o.maps()
	return hostOwner{uids.outside(0), gids.outside(0)}, err
}
