package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// The container's root can change the attributes of mounts that come into its mount namespace as descriptors: a
// read-only one would be read-only until `mount -o remount,bind,rw`, and what is mounted below it could be unmounted.
// But the kernel locks the attributes of mounts that a mount namespace has from one of another user namespace, and
// what is mounted on them (mount_namespaces(7), "Restrictions on mount namespaces"). So a container with mounts of the
// host's files starts in a mount namespace of the initial user namespace, the stage. They are mounted there, and then
// the init makes its own mount namespace, a copy of the stage. A copy of a locked mount, which the init then moves to
// its target, is locked too.

// Directories of the stage: the host's root directory, and the one with the mounts.
const (
	stageHost   = ".intercede-host"
	stageMounts = ".intercede-mounts"
)

// enterStage gives the calling thread a mount namespace whose root is a tmpfs, in which the host's files have their
// usual paths: the init's file, its dynamic linker, /proc, /sys and /dev are found there.
func enterStage() error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return fmt.Errorf("make the stage of bind mounts: %w", err)
	}
	if err := enterScratch(); err != nil {
		return err
	}
	err = errors.Join(unix.Mkdir(stageHost, 0o755), unix.Mkdir(stageMounts, 0o755),
		unix.Mount("tmpfs", stageMounts, "tmpfs", 0, "mode=755"))
	for _, entry := range entries {
		err = errors.Join(err, unix.Symlink(filepath.Join(stageHost, entry.Name()), entry.Name()))
	}
	if err != nil {
		return fmt.Errorf("make the stage of bind mounts: %w", err)
	}
	if err := unix.PivotRoot(".", stageHost); err != nil {
		return fmt.Errorf("make the stage of bind mounts the root: %w", err)
	}
	return unix.Chdir("/")
}

// stageRoot is where the root filesystem is in the stage.
var stageRoot = filepath.Join("/", stageMounts, "root")

// stagePath is where the mount of this index is in the stage.
func stagePath(index int) string { return filepath.Join("/", stageMounts, strconv.Itoa(index)) }

// needsStage reports whether the container has mounts of the host's files.
func (o *Options) needsStage(specs []mountSpec) bool {
	return !o.discards() || slices.ContainsFunc(specs, func(m mountSpec) bool { return !m.Tmpfs })
}

// fillStage mounts the root filesystem, if it is not nil, and the bind mounts in the mount namespace of the init, which
// waits in the stage.
func (c *Container) fillStage(root *os.File, specs []mountSpec, userNamespace int) error {
	files, err := openSources(specs, userNamespace)
	if err != nil {
		return err
	}
	defer closeFiles(files...)
	if c.stage, err = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", c.InitPID())); err != nil {
		return fmt.Errorf("open the stage of bind mounts: %w", err)
	}
	return c.onStage(func() error {
		if root != nil {
			if err := layOn(root, stageRoot); err != nil {
				return err
			}
		}
		for i, m := range specs {
			if m.Tmpfs {
				continue
			}
			if err := layOn(files[0], stagePath(i)); err != nil {
				return err
			}
			files = files[1:]
		}
		return nil
	})
}

// clearStage unmounts all that is in the stage, after the init has its copy. The thread that started the init stays in
// the stage as long as the container lives, and the host could not unmount a disk for good.
func (c *Container) clearStage() error {
	return c.onStage(func() error {
		for _, dir := range []string{stageMounts, stageHost} {
			if err := unix.Unmount(filepath.Join("/", dir), unix.MNT_DETACH); err != nil {
				return fmt.Errorf("clear the stage of bind mounts: %w", err)
			}
		}
		return nil
	})
}

// onStage calls fn in the stage, on a thread of its own.
func (c *Container) onStage(fn func() error) (err error) {
	linux.OnThread(func() {
		// Threads of a process share their directories, and then none can change its mount namespace (setns(2)).
		if err = unix.Unshare(unix.CLONE_FS); err == nil {
			err = unix.Setns(int(c.stage.Fd()), unix.CLONE_NEWNS)
		}
		if err != nil {
			err = fmt.Errorf("enter the stage of bind mounts: %w", err)
			return
		}
		err = fn()
	})
	return err
}

// leaveStage makes the init's own mount namespace, and returns copies of what is in the stage: the root filesystem, if
// it is there, and the bind mounts.
func leaveStage(wanted *request) (root *os.File, sources []*os.File, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, nil, fmt.Errorf("make the container's mount namespace: %w", err)
	}
	if wanted.RootStaged {
		if root, err = linux.CloneMount(stageRoot, unix.AT_RECURSIVE); err != nil {
			return nil, nil, fmt.Errorf("root filesystem: %w", err)
		}
	}
	for i, m := range wanted.Mounts {
		if m.Tmpfs {
			continue
		}
		mount, err := linux.CloneMount(stagePath(i), unix.AT_RECURSIVE)
		if err != nil {
			return nil, nil, fmt.Errorf("mount of %s at %s: %w", m.Source, m.Target, err)
		}
		sources = append(sources, mount)
	}
	return root, sources, nil
}
