package bpf

import (
	"fmt"
	"path/filepath"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// cgroup is a container's own cgroup of the v2 hierarchy.
type cgroup struct {
	dir int // O_PATH, in this process's view of the hierarchy
	id  cgroupID
}

// cgroupID identifies a cgroup: the inode number of its directory, which is not used again (kernfs).
type cgroupID struct {
	dev, ino uint64
}

func identify(dir int) (cgroupID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return cgroupID{}, fmt.Errorf("fstat of a cgroup: %w", err)
	}
	return cgroupID{uint64(st.Dev), st.Ino}, nil
}

// openCgroup opens the container's cgroup. It is an error if that is not the container's alone: a program that the
// container attached would be the host's as well.
func openCgroup(container sdk.Container) (*cgroup, error) {
	path := container.Cgroups[""]
	if path == "" || path == "/" {
		return nil, fmt.Errorf("the container is in cgroup %q of the v2 hierarchy: its runtime made it none of its own", path)
	}
	if container.CgroupShared != "" {
		return nil, fmt.Errorf("%s: the runtime made the container no cgroup of its own", container.CgroupShared)
	}
	folders, err := container.CgroupFolders()
	if err != nil {
		return nil, err
	}
	folder, ok := folders[""]
	if !ok || !belowRoot(folder, path) {
		return nil, fmt.Errorf("cgroup %s: the v2 hierarchy is not mounted as a whole, or the cgroup is outside the cgroup namespace of the plugin", path)
	}
	dir, err := unix.Openat2(unix.AT_FDCWD, folder.Path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", folder.Path, err)
	}
	own := &cgroup{dir: dir}
	if own.id, err = identify(dir); err != nil {
		own.close()
		return nil, err
	}
	return own, nil
}

// belowRoot reports whether the folder of the cgroup path is below that of the hierarchy's root, and not of a part of
// it: a program above the container's cgroup is looked for up to the root.
func belowRoot(folder sdk.CgroupFolder, path string) bool {
	return folder.Path == filepath.Join(folder.Top, path)
}

func (c *cgroup) close() { unix.Close(c.dir) }

// holds reports whether the cgroup, any mount's directory of it, is this one or below it. What was mounted where in a
// container does not matter: only where the kernel leads from a cgroup to the one above it.
func (c *cgroup) holds(dir int) (bool, error) {
	inside := false
	err := upwards(dir, func(_ int, id cgroupID) (bool, error) {
		inside = id == c.id
		return !inside, nil
	})
	return inside, err
}

// overridden reports whether a program attached to the cgroup, which this one holds, would take effect instead of one
// that is attached above it.
func (c *cgroup) overridden(dir int) (bool, error) {
	start, err := identify(dir)
	if err != nil {
		return false, err
	}
	found := false
	check := func(dir int, id cgroupID) (more bool, err error) {
		if id == start {
			return true, nil
		}
		above, errno := queryAttached(dir)
		if errno != 0 {
			return false, fmt.Errorf("query the programs of a cgroup above: %w", errno)
		}
		found = overrides(above)
		return !found, nil
	}
	// To the container's own cgroup the way is the mount's of dir; from there this process's, which reaches the root.
	err = upwards(dir, func(dir int, id cgroupID) (more bool, err error) {
		if id == c.id {
			return false, nil
		}
		return check(dir, id)
	})
	if err == nil && !found {
		err = upwards(c.dir, check)
	}
	return found, err
}

// maxDepth bounds a walk.
const maxDepth = 256

// upwards visits the cgroup that dir is a descriptor of and those above it, as far as the mount of dir shows them,
// until visit says that it is enough. A container may have mounted something else around: mounts are not crossed.
func upwards(dir int, visit func(dir int, id cgroupID) (more bool, err error)) error {
	dir, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("copy a descriptor: %w", err)
	}
	defer func() { unix.Close(dir) }()
	last := cgroupID{}
	for range maxDepth {
		id, err := identify(dir)
		if err != nil || id == last {
			return err // above the root is the root
		}
		if more, err := visit(dir, id); err != nil || !more {
			return err
		}
		parent, err := unix.Openat2(dir, "..", &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV,
		})
		if err == unix.EXDEV {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open the cgroup above: %w", err)
		}
		unix.Close(dir)
		dir, last = parent, id
	}
	return fmt.Errorf("more than %d cgroups above each other", maxDepth)
}
