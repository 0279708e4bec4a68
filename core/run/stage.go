package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// The container's root can change the attributes of mounts that come into its mount namespace as descriptors: a
// read-only one would be read-only until `mount -o remount,bind,rw`, and what is mounted below it could be unmounted.
// But the kernel locks the attributes of mounts that a mount namespace has from one of another user namespace, and
// what is mounted on them (mount_namespaces(7), "Restrictions on mount namespaces"). So the init starts in a mount
// namespace of the initial user namespace, the stage. What the container has of the host is mounted there, each bind
// mount where it belongs if that can be, and then the init makes its own mount namespace, a copy of the stage. A copy
// of a locked mount, which the init then moves to its target, is locked too.
//
// The lock does not hold the name of a mount point. Where the container may rename that, in a mount namespace of its own
// and by another mount of the directory above, it sees what the mount covers (see checkNested).

// Directories of the stage: the host's root directory, and the one with the mounts.
const (
	stageHost   = ".intercede-host"
	stageFolder = ".intercede-mounts"
)

// enterStage gives the calling thread a mount namespace whose root is a tmpfs, in which the host's files have their
// usual paths: the init's file, its dynamic linker, /proc, /sys and /dev are found there.
func enterStage() error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return fmt.Errorf("make the stage of the container's mounts: %w", err)
	}
	if err := enterScratch(); err != nil {
		return err
	}
	err = errors.Join(unix.Mkdir(stageHost, 0o755), unix.Mkdir(stageFolder, 0o755),
		unix.Mount("tmpfs", stageFolder, "tmpfs", 0, "mode=755"))
	for _, entry := range entries {
		err = errors.Join(err, unix.Symlink(filepath.Join(stageHost, entry.Name()), entry.Name()))
	}
	if err != nil {
		return fmt.Errorf("make the stage of the container's mounts: %w", err)
	}
	if err := unix.PivotRoot(".", stageHost); err != nil {
		return fmt.Errorf("make the stage of the container's mounts the root: %w", err)
	}
	return unix.Chdir("/")
}

// Where the root filesystem and /sys are in the stage.
var (
	stageRoot = filepath.Join("/", stageFolder, "root")
	stageSys  = filepath.Join("/", stageFolder, "sys")
)

// stagePath is where the mount of this index is in the stage, unless it is on its target.
func stagePath(index int) string { return filepath.Join("/", stageFolder, strconv.Itoa(index)) }

// fillStage mounts the root filesystem, /sys and the container's other mounts, as openMounts opened them, in the mount
// namespace of the init, which waits in the stage. It notes in specs which are on their targets. The mount namespace that
// it returns is closed by the caller; it may be nil.
func fillStage(init int, root *os.File, specs []mountSpec, files []*os.File) (stage *os.File, err error) {
	sys, err := newSys()
	if err != nil {
		return nil, fmt.Errorf("copy the mount of /sys: %w", err)
	}
	defer sys.Close()
	if stage, err = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", init)); err != nil {
		return nil, fmt.Errorf("open the stage of the container's mounts: %w", err)
	}
	return stage, onStage(stage, func() error {
		if err := layOn(root, stageRoot); err != nil {
			return err
		}
		if err := layOn(sys, stageSys); err != nil {
			return err
		}
		if err := hideHost(stageSys); err != nil {
			return fmt.Errorf("hide what is mounted below /sys: %w", err)
		}
		return stageMounts(specs, files)
	})
}

// stageMounts mounts the files of specs in the stage: on their targets, so that they cannot be unmounted there, or else
// at stagePath. The latter are those that the init has to make a mount point for, and those below what it mounts itself.
func stageMounts(specs []mountSpec, files []*os.File) error {
	var later []string
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		point, err := openBelow(stageRoot, dir, unix.RESOLVE_IN_ROOT)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s of the root filesystem: %w", dir, err)
		}
		later = append(later, point.Name())
		point.Close()
	}
	for i := range specs {
		point, err := openTarget(specs, i, later)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", specs[i].String(), err)
		case point == nil:
			err = layOn(files[i], stagePath(i))
		default:
			err = linux.AttachOn(files[i], point)
			point.Close()
			specs[i].Laid = true
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// openTarget opens the mount point of a mount in the stage: in the root filesystem or in a mount at its stagePath. It is
// nil if it is missing, and below the paths later, on which the init mounts something.
func openTarget(specs []mountSpec, i int, later []string) (*os.File, error) {
	target := specs[i].Target
	point, err := openBelow(stageRoot, target, unix.RESOLVE_IN_ROOT)
	if err == nil {
		isLater := slices.ContainsFunc(later, func(dir string) bool { return mountinfo.Within(point.Name(), dir) })
		if point.Name() != stageRoot && !isLater {
			return point, nil
		}
		point.Close()
	} else if !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	for j, outer := range slices.Backward(specs[:i]) { // the ones deeper come first
		below, found := strings.CutPrefix(target, outer.Target+"/")
		if !found || outer.Laid {
			continue
		}
		// A link could lead out of this mount.
		point, err = openBelow(stagePath(j), below, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
		switch {
		case err == nil:
			return point, nil
		case errors.Is(err, unix.ENOENT):
			return nil, nil
		case errors.Is(err, unix.ELOOP):
			err = fmt.Errorf("it leads over a symbolic link in what is mounted at %s, which the root filesystem does not have: make "+
				"that directory there: %w", outer.Target, err)
		}
		return nil, err
	}
	return nil, nil
}

// openTries bounds how often a path is looked up again: a rename on the host, by anybody, gives EAGAIN where a path has
// ".." (openat2(2)).
const openTries = 500

// openBelow opens a path that begins at dir, with O_PATH. The file's name is where it was found.
func openBelow(dir, path string, resolve uint64) (*os.File, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	fd := -1
	for range openTries {
		if fd, err = unix.Openat2(int(root.Fd()), path, &how); !errors.Is(err, unix.EAGAIN) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return nil, err
	}
	name, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// clearStage unmounts all that is in the stage, after the init has its copy. The thread that started the init stays in
// the stage as long as the container lives, and the host could not unmount a disk for good.
func (c *Container) clearStage() error {
	return onStage(c.stage, func() error {
		for _, dir := range []string{stageFolder, stageHost} {
			if err := unix.Unmount(filepath.Join("/", dir), unix.MNT_DETACH); err != nil {
				return fmt.Errorf("clear the stage of the container's mounts: %w", err)
			}
		}
		return nil
	})
}

// onStage calls fn in the stage, on a thread of its own.
func onStage(stage *os.File, fn func() error) (err error) {
	linux.OnThread(func() {
		// Threads of a process share their directories, and then none can change its mount namespace (setns(2)).
		if err = unix.Unshare(unix.CLONE_FS); err == nil {
			err = unix.Setns(int(stage.Fd()), unix.CLONE_NEWNS)
		}
		if err != nil {
			err = fmt.Errorf("enter the stage of the container's mounts: %w", err)
			return
		}
		err = fn()
	})
	return err
}

// leaveStage makes the init's own mount namespace, and returns copies of what is in the stage: the root filesystem with
// what is on it, /sys, and the other mounts.
func leaveStage(wanted *request) (root, sys *os.File, mounts []*os.File, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, nil, nil, fmt.Errorf("make the container's mount namespace: %w", err)
	}
	if root, err = linux.CloneMount(stageRoot, unix.AT_RECURSIVE); err != nil {
		return nil, nil, nil, fmt.Errorf("root filesystem: %w", err)
	}
	if sys, err = linux.CloneMount(stageSys, unix.AT_RECURSIVE); err != nil {
		return nil, nil, nil, err
	}
	for i, m := range wanted.Mounts {
		if m.Laid {
			continue
		}
		mount, err := linux.CloneMount(stagePath(i), unix.AT_RECURSIVE)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", m.String(), err)
		}
		mounts = append(mounts, mount)
	}
	return root, sys, mounts, nil
}
