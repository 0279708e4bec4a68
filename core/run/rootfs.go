package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// rootTree returns the container's root filesystem as a detached mount, which belongs to the container's user namespace
// as the options say. It is closed by the caller; nothing is left mounted when the last descriptor is closed.
func rootTree(options *Options, userNamespace int) (*os.File, error) {
	dir := options.rootDir()
	if !options.discards() {
		return closedTree(dir, userNamespace)
	}
	owner, err := options.hostOwner()
	if err != nil {
		return nil, err
	}
	var tree *os.File
	var mapped bool
	linux.OnThread(func() { tree, mapped, err = discardedTree(dir, userNamespace, owner) })
	if err == nil && !mapped {
		options.warnUnmapped()
	}
	return tree, err
}

// closedTree is idmappedTree, with what is mounted below, for a directory whose changes are kept.
func closedTree(dir string, userNamespace int) (*os.File, error) {
	file, err := openClosed(dir)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return idmappedTree(dir, fmt.Sprintf("/proc/self/fd/%d", file.Fd()), userNamespace, unix.AT_RECURSIVE)
}

// idmappedTree clones dir's mount, and with AT_RECURSIVE those below it, so that root of the container owns what root
// of the host owns there (mount_setattr(2)). The clone is private: no mount in the container reaches the host. The path
// at leads to dir too.
func idmappedTree(dir, at string, userNamespace int, recursive uint) (*os.File, error) {
	tree, err := cloneTree(at, userNamespace, recursive)
	if errors.Is(err, unix.EINVAL) {
		err = explainUnmappable(dir, userNamespace, recursive, err)
	}
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: its filesystem belongs to a user namespace, or is idmapped already; use a directory of an ordinary filesystem of the host", err)
	}
	return tree, explainKernel(err, "5.12")
}

func cloneTree(dir string, userNamespace int, recursive uint) (*os.File, error) {
	tree, err := linux.CloneMount(dir, recursive)
	if err != nil {
		return nil, fmt.Errorf("root filesystem: %w", err)
	}
	attributes := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_IDMAP,
		Propagation: unix.MS_PRIVATE,
		Userns_fd:   uint64(userNamespace),
	}
	if err := unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|recursive, &attributes); err != nil {
		tree.Close()
		return nil, fmt.Errorf("map the ids of root filesystem %s: %w", dir, err)
	}
	return tree, nil
}

// explainUnmappable finds which of the mounts made mount_setattr fail, and names its filesystem.
func explainUnmappable(dir string, userNamespace int, recursive uint, cause error) error {
	mounts, err := mountinfo.Own()
	if err != nil {
		return cause
	}
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return cause
	}
	if path, err = filepath.Abs(path); err != nil {
		return cause
	}
	for _, candidate := range mounts {
		if candidate.Point == path || recursive == 0 || !mountinfo.Within(candidate.Point, path) {
			continue
		}
		if tree, err := cloneTree(candidate.Point, userNamespace, 0); errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%s, mounted at %s, is a filesystem that cannot be idmapped: unmount it, or add --ephemeral, which leaves it out: %w", candidate.Type, candidate.Point, cause)
		} else if err == nil {
			tree.Close()
		}
	}
	on, ok := mountOf(mounts, path)
	if !ok {
		return cause
	}
	remedy := "copy it to one that can (ext4, xfs, btrfs, tmpfs)"
	if isOverlay(dir) {
		remedy += ", or add --ephemeral, with which its files belong to nobody"
	}
	return fmt.Errorf("%s is on %s, a filesystem that cannot be idmapped: %s: %w", dir, on.Type, remedy, cause)
}

// mountOf returns the mount that path, absolute and without symlinks, is on.
func mountOf(mounts []mountinfo.Mount, path string) (mountinfo.Mount, bool) {
	var found mountinfo.Mount
	for _, m := range mounts {
		if mountinfo.Within(path, m.Point) && len(m.Point) >= len(found.Point) {
			found = m
		}
	}
	return found, found.Point != ""
}

// explainKernel says so where a system call is missing.
func explainKernel(err error, version string) error {
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: the kernel is older than %s", err, version)
	}
	return err
}

// discardedTree returns an overlay whose lower layer is dir, idmapped where that can be, which it reports, and whose
// upper layer is a tmpfs of its own.
//
// The overlay is mounted here, not by the container, so that the initial user namespace owns its superblock: the device
// nodes of one that the container owns could not be opened (SB_I_NODEV, fs/super.c).
//
// It changes the calling thread's mount namespace, working directory and umask.
func discardedTree(dir string, userNamespace int, owner hostOwner) (tree *os.File, mapped bool, err error) {
	var on unix.Statfs_t
	if err := unix.Statfs(dir, &on); err != nil {
		return nil, false, fmt.Errorf("root filesystem %s: %w", dir, err)
	}
	lower, mapped, err := lowerTree(dir, userNamespace)
	if err != nil {
		return nil, false, err
	}
	defer lower.Close()
	if err := enterScratch(); err != nil {
		return nil, false, err
	}
	if err := makeLayers(lower); err != nil {
		return nil, false, fmt.Errorf("make the layers of the discarded root filesystem: %w", err)
	}
	if !mapped {
		if err := giveDirectories(owner); err != nil {
			return nil, false, fmt.Errorf("give the root filesystem to the container's root: %w", err)
		}
	}
	tree, err = linux.NewMount("overlay", map[string]string{
		"source":   "intercede",
		"lowerdir": "lower",
		"upperdir": "upper",
		"workdir":  "work",
	}, int(on.Flags)&sealed) // the ST_* of statfs(2) are these MOUNT_ATTR_*, and overlayfs does not ask the lower mount for its own
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENODEV) {
		return nil, false, fmt.Errorf("mount the overlay of the discarded root filesystem, which needs overlayfs and Linux 5.19: %w", err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("mount the overlay of the discarded root filesystem: %w", err)
	}
	return tree, mapped, nil
}

// enterScratch gives the thread a mount namespace of its own, from which nothing propagates, and makes a new tmpfs its
// working directory.
func enterScratch() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a private mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts of a private mount namespace private: %w", err)
	}
	unix.Umask(0)
	scratch, err := linux.NewMount("tmpfs", map[string]string{"source": "intercede", "mode": "0755"}, 0)
	if err != nil {
		return fmt.Errorf("mount a tmpfs for the container's changes: %w", err)
	}
	defer scratch.Close()
	if err := linux.Attach(scratch, "/"); err != nil {
		return err
	}
	return scratch.Chdir()
}

// makeLayers gives the upper directory, which stands for the root directory, the mode and the owner of the lower one.
func makeLayers(lower *os.File) error {
	for _, name := range []string{"lower", "upper", "work"} {
		if err := unix.Mkdir(name, 0o755); err != nil {
			return fmt.Errorf("make directory %s: %w", name, err)
		}
	}
	if err := linux.Attach(lower, "lower"); err != nil {
		return err
	}
	var root unix.Stat_t
	if err := unix.Stat("lower", &root); err != nil {
		return fmt.Errorf("stat the root directory: %w", err)
	}
	if err := unix.Chown("upper", int(root.Uid), int(root.Gid)); err != nil {
		return fmt.Errorf("give the root directory its owner: %w", err)
	}
	if err := unix.Chmod("upper", root.Mode&0o7777); err != nil {
		return fmt.Errorf("give the root directory its mode: %w", err)
	}
	return nil
}
