package target

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/intercede/intercede/internal/capture"
	"golang.org/x/sys/unix"
)

// Steps whose errno is the path's.
const (
	stepOpen   = "openat"
	stepAccess = "faccessat2"
)

// openAt opens (O_PATH) path exactly as the target would: in its user and mount namespaces, root and working directory,
// with all its credentials and capabilities, so that it reaches the files of others that a capability of the target
// reaches, and none of the host's. A relative path starts at dir, an own descriptor, or AT_FDCWD. If access is not 0
// the file must also allow it to the target (faccessat2(2): unix.W_OK ...).
//
// The error wraps the kernel's errno if it is the path's; os.ErrProcessDone if the target is gone; ctx's if that ends
// first.
//
// A thread of a Go program cannot join a user namespace (the kernel wants a single-threaded process), so this forks:
// about a hundred times the cost of Do.
func (t *Target) openAt(ctx context.Context, dir int, path string, flags int, access uint32) (*os.File, error) {
	if strings.IndexByte(path, 0) >= 0 {
		return nil, fmt.Errorf("open %q: a NUL is in the path: %w", path, unix.EINVAL)
	}
	p, err := t.Place()
	if err != nil {
		return nil, entryError(err)
	}
	user, namespace, err := t.openUserNamespace()
	if err != nil {
		return nil, entryError(err)
	}
	defer unix.Close(user)
	s := &Steps{}
	s.addPlace(p)
	s.addPower(user, p.credentials)
	// A path can name what the process has open (/proc/self/fd/3), and /proc/self is then the process.
	for _, fd := range s.kept {
		s.Add("close", unix.SYS_CLOSE, fd)
	}
	if dir >= 0 {
		s.KeepOpen(dir)
	}
	opened := s.Add(stepOpen, unix.SYS_OPENAT, dir, path, flags|unix.O_PATH|unix.O_CLOEXEC, 0)
	if access != 0 {
		s.Add(stepAccess, unix.SYS_FACCESSAT2, opened, "", uintptr(access), unix.AT_EACCESS|unix.AT_EMPTY_PATH)
	}
	fd, err := s.open(ctx, namespace, opened)
	if err != nil {
		return nil, fmt.Errorf("open %q as thread %d: %w", path, t.tid, openError(ctx, err))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// IsShortage reports whether an error means that this process, or the host, has no descriptors or memory left. That is
// not an answer to what the caller asked.
func IsShortage(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// openError tells the errno of the path from what failed before.
func openError(ctx context.Context, err error) error {
	var failed *StepError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &failed):
		return entryError(err)
	case failed.What == stepOpen || failed.What == stepAccess:
		return failed.Errno
	}
	return entryError(capture.ProcessError(failed))
}

// entryError hides an errno that is not the path's.
func entryError(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%w: %v", os.ErrProcessDone, err)
	}
	return errors.New(err.Error())
}
