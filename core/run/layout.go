package run

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// deviceNames are the host's device nodes that the container sees.
var deviceNames = []string{"null", "zero", "full", "random", "urandom", "tty"}

// deviceLinks are the symbolic links of /dev (OCI runtime specification, runtime-linux.md, "Dev symbolic links"; and
// config-linux.md, "Default Devices", for ptmx).
var deviceLinks = map[string]string{
	"fd":     "/proc/self/fd",
	"stdin":  "/proc/self/fd/0",
	"stdout": "/proc/self/fd/1",
	"stderr": "/proc/self/fd/2",
	"ptmx":   "pts/ptmx",
}

const sealed = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// hostParts are mounts that can only be made while the host's files are in sight.
type hostParts struct {
	proc    *os.File
	sys     *os.File // see newSys
	dev     *os.File // a tmpfs: see newDev
	devices map[string]*os.File
}

// enterRoot makes tree the root filesystem, with /proc, sys at /sys, dev at /dev, and /tmp, and drops the host's
// mounts. The container has the group ids gids.
func enterRoot(tree, dev, sys *os.File, gids idMap) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the container's mounts private: %w", err)
	}
	parts, err := collectHostParts()
	if err != nil {
		return err
	}
	if err := pivot(tree); err != nil {
		return err
	}
	parts.dev, parts.sys = dev, sys
	return parts.lay(gids)
}

func collectHostParts() (*hostParts, error) {
	parts := &hostParts{devices: map[string]*os.File{}}
	var err error
	if parts.proc, err = linux.NewMount("proc", map[string]string{"source": "proc"}, sealed); err != nil {
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: the kernel allows it only where the host's /proc is mounted in full; if this is a container, let its runtime not mask /proc (podman run --security-opt unmask=ALL)", err)
		}
		return nil, err
	}
	for _, name := range deviceNames {
		if parts.devices[name], err = linux.CloneMount("/dev/"+name, 0); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// pivot mounts tree over the old root, and makes it the root.
func pivot(tree *os.File) error {
	if err := linux.Attach(tree, "/"); err != nil {
		return err
	}
	if err := tree.Chdir(); err != nil {
		return fmt.Errorf("enter the container's root: %w", err)
	}
	return linux.PivotHere()
}

// lay puts everything in its place. Symbolic links on the way, which the container's author wrote, cannot lead out of
// the root filesystem any more.
func (p *hostParts) lay(gids idMap) error {
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{"/proc", 0o555}, {"/sys", 0o555}, {"/dev", 0o755}, {"/tmp", 0o777 | os.ModeSticky}} {
		if err := makeDir(dir.path, dir.mode); err != nil {
			return err
		}
	}
	if err := linux.Attach(p.proc, "/proc"); err != nil {
		return err
	}
	if err := errors.Join(linux.Attach(p.sys, "/sys"), layCgroups()); err != nil {
		return err
	}
	return p.layDevices(gids)
}

// newSys returns a detached copy of the mount of /sys and those below it, read-only.
func newSys() (*os.File, error) {
	sys, err := linux.CloneMount("/sys", unix.AT_RECURSIVE)
	if err != nil {
		return nil, err
	}
	if err := linux.SetMount(sys, unix.MOUNT_ATTR_RDONLY|sealed, unix.AT_RECURSIVE); err != nil {
		sys.Close()
		return nil, err
	}
	return sys, nil
}

// hideHost hides what is mounted below a copy of /sys, in the calling thread's mount namespace: the host's cgroups, for
// example, and with them those of other containers, which have the same user IDs on the host, so that they belong to
// this one's root too. What was hidden by a mount, such as a folder that an administrator has masked, stays so: an empty
// tmpfs is mounted there.
func hideHost(sys string) error {
	mounts, err := mountinfo.Own()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Point == sys || !mountinfo.Within(m.Point, sys) {
			continue
		}
		if info, err := os.Stat(m.Point); err != nil || !info.IsDir() {
			continue // it has gone with one above, or is a file that is masked
		}
		for unix.Unmount(m.Point, unix.MNT_DETACH) == nil {
		}
		below, err := os.ReadDir(m.Point)
		if err == nil && len(below) == 0 {
			continue
		}
		cover, err := linux.NewMount("tmpfs", map[string]string{"source": "none", "mode": "555"}, unix.MOUNT_ATTR_RDONLY|sealed)
		if err != nil {
			return err
		}
		err = linux.Attach(cover, m.Point)
		cover.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// layCgroups mounts the container's own cgroups of version 2, which belong to its root: an engine in the container can
// make some. Where that cannot be there are none.
func layCgroups() error {
	own, err := linux.NewMount("cgroup2", map[string]string{"source": "cgroup2"}, sealed)
	if err != nil {
		return nil
	}
	defer own.Close()
	return linux.Attach(own, "/sys/fs/cgroup")
}

// newDev returns a detached tmpfs for the container's /dev, which belongs to its root. It is mounted here, because the
// initial user namespace then owns its superblock: nodes that the container makes there by interception can be opened,
// renamed and removed. In one that the container owns they cannot be opened (SB_I_NODEV, fs/super.c).
func newDev(owner hostOwner) (*os.File, error) {
	return linux.NewMount("tmpfs", map[string]string{
		"source": "tmpfs", "mode": "755", "size": "65536k", "uid": strconv.Itoa(owner.uid), "gid": strconv.Itoa(owner.gid),
	}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_STRICTATIME)
}

// ttyGroup owns terminals on all distributions.
const ttyGroup = 5

// layDevices makes /dev as runc does (libcontainer/specconv/example.go).
func (p *hostParts) layDevices(gids idMap) error {
	terminals := "newinstance,ptmxmode=0666,mode=0620"
	if gids.outside(ttyGroup) >= 0 { // devpts takes no other
		terminals += ",gid=" + strconv.Itoa(ttyGroup)
	}
	if err := linux.Attach(p.dev, "/dev"); err != nil {
		return err
	}
	for _, m := range []struct {
		fstype, path, data string
		flags              uintptr
	}{
		{"devpts", "/dev/pts", terminals, unix.MS_NOSUID | unix.MS_NOEXEC},
		{"tmpfs", "/dev/shm", "mode=1777,size=65536k", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"mqueue", "/dev/mqueue", "", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	} {
		if err := makeDir(m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, m.path, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.fstype, m.path, err)
		}
	}
	for name, node := range p.devices {
		if err := layOver(node, "/dev/"+name); err != nil {
			return err
		}
	}
	for name, target := range deviceLinks {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return fmt.Errorf("link devices: %w", err)
		}
	}
	return nil
}

// layOver mounts a node over a new empty file.
func layOver(node *os.File, path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	file.Close()
	return linux.Attach(node, path)
}

// makeDir makes a directory that the root filesystem lacks; one that is there keeps its mode.
func makeDir(path string, mode os.FileMode) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil
	}
	if err := os.Mkdir(path, mode); err != nil {
		return fmt.Errorf("make the missing directory %s of the root filesystem: %w", path, err)
	}
	return nil
}
