package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/intercede/intercede/internal/mountinfo"
	"golang.org/x/sys/unix"
)

// openClosed opens a directory of the host in which root of the container makes files as root of the host. It refuses
// one that users of the host can reach: the container could make them a set-user-ID program, a program with file
// capabilities, or a device node. The directories above are those that it is in, whatever its path leads over, and what
// is mounted is this very directory.
func openClosed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("%s is not a directory: add ro, or mount its directory, since the container's root makes what belongs to root of it", dir)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	file := os.NewFile(uintptr(fd), dir)
	closed, err := isClosed(file)
	open := dir
	if err == nil && closed {
		open, err = findOpen(file)
	}
	if err == nil && open != "" {
		err = fmt.Errorf("other users of this host can reach %s, where the container's root makes files that belong to root: "+
			"make it or a directory above it root's alone (chown root, chmod go-x)", open)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// findOpen looks where else the directory is seen, by other mounts of its filesystem, and returns a path by which users
// of the host reach it; empty: there is none.
func findOpen(dir *os.File) (string, error) {
	mounts, err := mountinfo.Own()
	if err != nil {
		return "", err
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()))
	if err != nil {
		return "", err
	}
	id, err := statID(dir)
	if err != nil {
		return "", err
	}
	on, _ := mountOf(mounts, own)
	inside := filepath.Join(on.Root, strings.TrimPrefix(own, on.Point)) // its path in the filesystem
	for _, m := range mounts {
		if m.Type != on.Type || !mountinfo.Within(inside, m.Root) {
			continue
		}
		path := filepath.Join(m.Point, strings.TrimPrefix(inside, m.Root))
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // another filesystem of the type
		}
		file := os.NewFile(uintptr(fd), path)
		other, err1 := statID(file)
		closed, err2 := isClosed(file)
		file.Close()
		if err := errors.Join(err1, err2); err != nil {
			return "", err
		}
		if other == id && !closed {
			return path, nil
		}
	}
	return "", nil
}

// isClosed reports whether only root may search the directory or one that it is in. Of the bits of a group it has none:
// an access control list shows there too.
func isClosed(dir *os.File) (bool, error) {
	at, err := unix.Openat(int(dir.Fd()), ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	defer func() { unix.Close(at) }()
	for below := (unix.Stat_t{}); ; {
		var st unix.Stat_t
		if err := unix.Fstat(at, &st); err != nil {
			return false, &os.PathError{Op: "stat what is above", Path: dir.Name(), Err: err}
		}
		if st.Uid == 0 && st.Mode&0o011 == 0 {
			return true, nil
		}
		if st.Dev == below.Dev && st.Ino == below.Ino { // the root directory is its own parent
			return false, nil
		}
		below = st
		above, err := unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, &os.PathError{Op: "open what is above", Path: dir.Name(), Err: err}
		}
		unix.Close(at)
		at = above
	}
}
