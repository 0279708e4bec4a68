package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// linksMax is the number of symbolic links that a path may lead over: MAXSYMLINKS of include/linux/namei.h.
const linksMax = 40

// openMountPoint opens what is at a path of the container, with O_PATH, for a mount to be on. What is missing is made:
// directories, and at the end a directory or an empty file. Symbolic links are followed, as the container sees them,
// also one at the end: mount points such as /var/run often are links. Of links of /proc that lead to open files only
// the text counts, since files of the host are open here (RESOLVE_NO_MAGICLINKS, openat2(2)).
func openMountPoint(path string, directory bool) (*os.File, error) {
	at, rest := "/", strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." || name == ".." {
			at = filepath.Join(at, name)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			err = makeIn(at, name, directory || len(rest) > 0)
		}
		if err != nil {
			return nil, err
		}
		if info == nil || info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err == nil && links > linksMax {
			err = fmt.Errorf("%s: %w", next, unix.ELOOP)
		}
		if err != nil {
			return nil, err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = slices.Concat(strings.Split(target, "/"), rest)
	}
	return openResolved(at, 0)
}

// openResolved opens a path without symbolic links, with O_PATH.
func openResolved(path string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeIn makes a directory or an empty file in dir, a path without symbolic links.
func makeIn(dir, name string, directory bool) error {
	parent, err := openResolved(dir, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer parent.Close()
	if directory {
		err = unix.Mkdirat(int(parent.Fd()), name, 0o755)
	} else {
		err = unix.Mknodat(int(parent.Fd()), name, unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Join(dir, name), err)
	}
	return nil
}
