package target

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenPathHere, called inside Do, opens (O_PATH) what path names, of whatever kind it is: nothing of it is started or
// waited for. A relative path starts at dir, an own descriptor, or AT_FDCWD. follow is whether a symbolic link at the
// end of the path is followed, or is itself what is named.
//
// It follows no magic link of procfs, see OpenParentHere: the error is then ELOOP. OpenPath follows them as the target.
func OpenPathHere(dir int, path string, follow bool) (*os.File, error) {
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   uint64(pathFlags(follow) | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "openat2", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// OpenPath is like OpenPathHere, outside Do, and resolves the path exactly as the target would, by its own power. Paths
// through /proc/self and /proc/thread-self lead where they lead for the target.
func (t *Target) OpenPath(ctx context.Context, dir int, path string, follow bool) (*os.File, error) {
	// A link at the end is followed by resolveSelf only if it is not the last component.
	tail := ""
	switch {
	case strings.HasSuffix(path, "/"):
		tail = "."
	case follow:
		tail = "/."
	}
	resolved, err := t.resolveSelf(ctx, dir, path+tail)
	if err != nil {
		return nil, err
	}
	return t.openAt(ctx, dir, cmp.Or(strings.TrimSuffix(resolved, tail), "/"), pathFlags(follow), 0)
}

func pathFlags(follow bool) int {
	if follow {
		return unix.O_PATH
	}
	return unix.O_PATH | unix.O_NOFOLLOW
}

// OpenStart opens (O_PATH) the directory at which path starts in a system call of the target that takes it with the
// descriptor dirFD, as openat(2) does. It returns AT_FDCWD if the path is absolute, or starts at the working directory.
// The descriptor is closed by release. The error wraps unix.EBADF if the thread has no such descriptor.
func (t *Target) OpenStart(dirFD int, path string) (dir int, release func(), err error) {
	if dirFD == unix.AT_FDCWD || strings.HasPrefix(path, "/") {
		return unix.AT_FDCWD, func() {}, nil
	}
	file, _, err := t.OpenDescriptor(dirFD)
	if err != nil {
		return -1, nil, err
	}
	return int(file.Fd()), func() { file.Close() }, nil
}

// MayNeedPower reports whether a path that is refused with this error in Do, where the target has its ids alone, may
// lead somewhere by its own power, see OpenPath and OpenParent: by a capability in its user namespace (EACCES), or
// through a link of procfs, which is not followed in Do (ELOOP) or is different for the target (ENOENT).
func MayNeedPower(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT)
}

// OpenDescriptor opens (O_PATH) the file that the thread's descriptor fd is open on, and gives the descriptor's own
// flags (open(2)), O_PATH among them. The target may replace the descriptor between the one and the other. The error
// wraps unix.EBADF if the thread has none such.
//
// Closing the file asks nobody, where closing the duplicate that Descriptor gives asks the filesystem (close(2),
// flush), and waits for a filesystem that the target serves (FUSE), for ever if that wants it.
func (t *Target) OpenDescriptor(fd int) (file *os.File, flags int, err error) {
	number := strconv.Itoa(fd)
	info, err := readStart(t.proc("fdinfo/"+number), 512)
	if err != nil {
		return nil, 0, t.descriptorError(fd, err)
	}
	if flags, err = descriptorFlags(info); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", t.proc("fdinfo/"+number), err)
	}
	path := t.proc("fd/" + number)
	opened, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, t.descriptorError(fd, &os.PathError{Op: "open", Path: path, Err: err})
	}
	if err := t.endRead(); err != nil {
		unix.Close(opened)
		return nil, 0, err
	}
	return os.NewFile(uintptr(opened), path), flags, nil
}

// readStart reads the first n bytes of a file at most: of some descriptors, such as epoll's, fdinfo tells megabytes.
func readStart(path string, n int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, n)
	if n, err = unix.Read(fd, text); err != nil {
		return nil, &os.PathError{Op: "read", Path: path, Err: err}
	}
	return text[:n], nil
}

// descriptorError tells a descriptor that is not there from a thread that is gone.
func (t *Target) descriptorError(fd int, err error) error {
	if gone := t.Alive(); gone != nil {
		return gone
	}
	if errors.Is(err, unix.ENOENT) {
		err = unix.EBADF
	}
	return fmt.Errorf("descriptor %d of thread %d: %w", fd, t.tid, err)
}

// descriptorFlags reads the line "flags:", in octal, of /proc/PID/fdinfo/FD (proc_pid_fdinfo(5)).
func descriptorFlags(info []byte) (int, error) {
	for line := range bytes.Lines(info) {
		if digits, found := bytes.CutPrefix(line, []byte("flags:")); found {
			flags, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 8, 32)
			return int(flags), err
		}
	}
	return 0, errors.New("no line flags")
}
