package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/capture"
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
	// A link at the end is followed by resolveSelf only if it is not the last component, as it is not before "/.",
	// which is the caller's own: what has it must be a directory.
	tail := ""
	switch {
	case strings.HasSuffix(path, "/"):
		tail = "."
	case follow && !strings.HasSuffix(path, "/."):
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
	d, err := t.OpenDescriptor(dirFD)
	if err != nil {
		return -1, nil, err
	}
	return int(d.File.Fd()), func() { d.File.Close() }, nil
}

// MayNeedPower reports whether a path that is refused with this error in Do, where the target has its ids alone, may
// lead somewhere by its own power, see OpenPath and OpenParent: by a capability in its user namespace (EACCES), or
// through a link of procfs, which is not followed in Do (ELOOP) or is different for the target (ENOENT).
func MayNeedPower(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT)
}

// Descriptor is one of a thread's descriptors.
type Descriptor struct {
	File  *os.File // what it is open on (O_PATH)
	Flags int      // its own (open(2)), O_PATH among them
	Info  []byte   // the first 512 bytes of its fdinfo (proc_pid_fdinfo(5))
}

// OpenDescriptor opens (O_PATH) the file that the thread's descriptor fd is open on, and says what the kernel says of
// the descriptor. The target's process may replace the descriptor between the one and the other. The file is the
// caller's to close. The error wraps unix.EBADF if the thread has no such descriptor.
//
// Closing the file asks nobody, where closing a duplicate asks the filesystem (close(2), flush), and waits for a
// filesystem that the target serves (FUSE), for ever if that wants it.
func (t *Target) OpenDescriptor(fd int) (Descriptor, error) {
	if fd < 0 {
		return Descriptor{}, fmt.Errorf("descriptor %d of thread %d: %w", fd, t.tid, unix.EBADF)
	}
	h, err := t.take(capture.PartDescriptor, int32(fd))
	if err != nil {
		return Descriptor{}, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	return Descriptor{os.NewFile(uintptr(h.fd), "fd/"+strconv.Itoa(fd)), h.flags, h.text}, nil
}
