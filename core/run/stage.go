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
// read-only one would be read-only until `mount -o remount,bind,rw`. But the kernel locks the attributes of mounts that
// a mount namespace has from one of another user namespace, and what is mounted on them (mount_namespaces(7),
// "Restrictions on mount namespaces"). So a container with such bind mounts starts in a mount namespace of the initial
// user namespace, the stage. They are mounted there, and then the init makes its own mount namespace, a copy of the
// stage. A copy of a locked mount, which the init then moves to its target, is locked too.

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
	err = errors.Join(unix.Mkdir(stageHost, 0o755), unix.Mkdir(stageMounts, 0o755))
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

// stagePath is where the mount of this index is in the stage.
func stagePath(index int) string { return filepath.Join("/", stageMounts, strconv.Itoa(index)) }

func needsStage(specs []mountSpec) bool {
	return slices.ContainsFunc(specs, func(m mountSpec) bool { return m.isStaged() })
}

// fillStage mounts the bind mounts that need it in the mount namespace of the init, which waits in the stage.
func fillStage(specs []mountSpec, init, userNamespace int) error {
	if !needsStage(specs) {
		return nil
	}
	files, err := openEach(specs, userNamespace, (*mountSpec).isStaged)
	if err != nil {
		return err
	}
	defer closeFiles(files...)
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", init))
	if err != nil {
		return fmt.Errorf("open the stage of bind mounts: %w", err)
	}
	defer namespace.Close()
	linux.OnThread(func() { err = attachStaged(specs, files, int(namespace.Fd())) })
	return err
}

// attachStaged changes the calling thread's mount namespace, and its directories with it.
func attachStaged(specs []mountSpec, files []*os.File, namespace int) error {
	// Threads of a process share their directories, and then none can change its mount namespace (setns(2)).
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Setns(namespace, unix.CLONE_NEWNS)
	}
	if err != nil {
		return fmt.Errorf("enter the stage of bind mounts: %w", err)
	}
	for i, m := range specs {
		if !m.isStaged() {
			continue
		}
		if err := layOn(files[0], stagePath(i)); err != nil {
			return err
		}
		files = files[1:]
	}
	return nil
}

// leaveStage makes the init's own mount namespace, and returns the sources of all bind mounts: the given ones, and
// copies of those in the stage.
func leaveStage(specs []mountSpec, sources []*os.File) (all []*os.File, err error) {
	if !needsStage(specs) {
		return sources, nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("make the container's mount namespace: %w", err)
	}
	for i, m := range specs {
		switch {
		case m.Tmpfs:
		case m.isStaged():
			mount, err := linux.CloneMount(stagePath(i), unix.AT_RECURSIVE)
			if err != nil {
				return nil, fmt.Errorf("mount of %s at %s: %w", m.Source, m.Target, err)
			}
			all = append(all, mount)
		default:
			all, sources = append(all, sources[0]), sources[1:]
		}
	}
	return all, nil
}
