package sandbox

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// socketDir is the folder of the plugin's socket and of its temporary files, as the plugin sees it.
	socketDir = wire.OwnDir + "/socket"
	// hiddenProc is where the procfs is if /proc has files of the host's, for which procfs has no place.
	hiddenProc = wire.OwnDir + "/proc"

	closedMount = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
)

// libraries are what a dynamically linked binary needs of the host.
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"}

// root is a root filesystem that is being made: a tmpfs, which is the working directory, with detached mounts to be
// put on it.
type root struct {
	mounts []place
}

// place is a mount with its place.
type place struct {
	mount *os.File
	path  string // absolute, in the new root
}

// enterRoot gives the process, which is in a mount namespace of its own, a root filesystem that is read-only and has
// nothing of the host's but what the plugin declares and, for a dynamically linked binary, libraries. Nothing that the
// host mounts later arrives there.
//
// Its procfs shows the processes of its pid namespace that it may trace, which are its own, and nothing else: also in
// the host's pid namespace.
func (r *restrictions) enterRoot() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts of a private mount namespace private: %w", err)
	}
	unix.Umask(0o022)
	var made root
	if err := made.addHost(r.Host, closedMount); err != nil {
		return err
	}
	if err := made.addLibraries(); err != nil {
		return err
	}
	if r.Script != 0 {
		made.mounts = append(made.mounts, place{os.NewFile(uintptr(r.Script), "script"), scriptPath})
	}
	if r.Served {
		made.mounts = append(made.mounts, place{os.NewFile(socketFD, "socket folder"), socketDir})
	}
	proc, err := linux.NewMount("proc", map[string]string{"source": "proc", "hidepid": "ptraceable", "subset": "pid"}, closedMount)
	if err != nil {
		return fmt.Errorf("a procfs of its own: %w", err)
	}
	made.mounts = append(made.mounts, place{proc, r.procPath()})
	return made.enter()
}

// procPath is where the plugin's procfs is.
func (r *restrictions) procPath() string {
	if slices.ContainsFunc(r.Host, func(path string) bool { return path == "/proc" || strings.HasPrefix(path, "/proc/") }) {
		return hiddenProc
	}
	return "/proc"
}

// addHost adds what is at these paths, and mounted below them, read-only.
func (made *root) addHost(paths []string, attributes uint64) error {
	for _, path := range slices.Sorted(slices.Values(paths)) {
		tree, err := linux.CloneMount(path, unix.AT_RECURSIVE)
		if err != nil {
			return err
		}
		if err := linux.SetMount(tree, unix.MOUNT_ATTR_RDONLY|attributes, unix.AT_RECURSIVE); err != nil {
			return err
		}
		made.mounts = append(made.mounts, place{tree, path})
	}
	return nil
}

// addLibraries adds the folders of libraries if the binary is dynamically linked. A static one, as a plugin in Go is,
// has none.
func (made *root) addLibraries() error {
	binary, err := elf.Open(fmt.Sprintf("/proc/self/fd/%d", binaryFD))
	if err != nil {
		return nil // execve(2) says what is wrong
	}
	defer binary.Close()
	if !slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return nil
	}
	for _, path := range libraries {
		err := made.addHost([]string{path}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// enter makes it the root filesystem, without the old one.
func (made *root) enter() error {
	limits := map[string]string{"source": "intercede", "mode": "0755", "size": "64k", "nr_inodes": "4096"}
	tmpfs, err := linux.NewMount("tmpfs", limits, closedMount)
	if err != nil {
		return fmt.Errorf("a tmpfs for the root: %w", err)
	}
	defer tmpfs.Close()
	if err := linux.Attach(tmpfs, "/"); err != nil {
		return err
	}
	if err := tmpfs.Chdir(); err != nil {
		return err
	}
	for _, p := range made.mounts {
		if err := p.attach(); err != nil {
			return err
		}
	}
	if err := linkProc(); err != nil {
		return err
	}
	if err := linux.SetMount(tmpfs, unix.MOUNT_ATTR_RDONLY, 0); err != nil {
		return err
	}
	return linux.PivotHere()
}

// attach puts the mount at its place below the working directory.
func (p place) attach() error {
	defer p.mount.Close()
	path := "." + p.path
	info, err := p.mount.Stat()
	if err != nil {
		return err
	}
	if err := makeMountPoint(path, info.IsDir()); err != nil {
		return err
	}
	return linux.Attach(p.mount, path)
}

// makeMountPoint makes a folder or a file, unless it is there in a mount of the host's.
func makeMountPoint(path string, folder bool) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if folder {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o444)
}

// linkProc makes the plugin's procfs found in /proc if it is hidden, unless the host's is there, and leaves a folder
// there that all processes have.
func linkProc() error {
	if err := os.MkdirAll("./dev", 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat("./proc/self"); err == nil {
		return nil
	}
	for _, name := range []string{"self", "thread-self"} {
		if err := os.Symlink(hiddenProc+"/"+name, "./proc/"+name); err != nil {
			return err
		}
	}
	return nil
}
