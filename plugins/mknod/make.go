package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// make makes the node for the caller. The errno is what mknod(2) gives; an error means that the plugin failed.
func (n node) make(ctx context.Context, req *sdk.Request) (unix.Errno, error) {
	t, err := req.Target(ctx)
	if err != nil {
		return 0, err
	}
	dir, errno, err := n.openDir(t)
	if errno != 0 || err != nil {
		return errno, err
	}
	if dir != nil {
		defer dir.Close()
	}
	place := spot{dirFD(dir), n.path, target.CapabilitySet(unix.CAP_MKNOD)}
	// The last moment to notice a caller that is gone: from here on the filesystem changes.
	if err := req.CheckValid(ctx); err != nil {
		return 0, err
	}
	errno, err = n.makeAt(t, place)
	if err != nil || errno != unix.EACCES && errno != unix.ENOENT {
		return errno, err
	}
	return n.makeByPower(ctx, t, place, errno)
}

// openDir takes the caller's dirfd, if the path is relative to it.
func (n node) openDir(t *target.Target) (*os.File, unix.Errno, error) {
	if n.dirFD == unix.AT_FDCWD || strings.HasPrefix(n.path, "/") {
		return nil, 0, nil
	}
	dir, err := t.File(n.dirFD)
	if errors.Is(err, unix.EBADF) {
		return nil, unix.EBADF, nil
	}
	return dir, 0, err
}

func dirFD(dir *os.File) int {
	if dir == nil {
		return unix.AT_FDCWD
	}
	return int(dir.Fd())
}

// makeByPower is for what a thread with no more than the caller's filesystem ids could not reach: a directory that the
// caller reaches by a capability in its own user namespace, or through a link of procfs that is different for it. errno
// is what the kernel said without; it stands if the caller's power does not reach either.
func (n node) makeByPower(ctx context.Context, t *target.Target, place spot, errno unix.Errno) (unix.Errno, error) {
	dir, name, err := t.OpenParent(ctx, place.dir, place.path)
	if kernel := unix.Errno(0); errors.As(err, &kernel) {
		return errno, nil
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return n.makeAt(t, spot{int(dir.Fd()), name, place.lent | target.CapabilitySet(unix.CAP_DAC_OVERRIDE)})
}

// spot is where a node is made, and the capabilities lent for it.
type spot struct {
	dir  int // an own descriptor, or AT_FDCWD of the caller
	path string
	lent target.Capabilities
}

// makeAt makes the node at the spot, one that can be opened.
func (n node) makeAt(t *target.Target, s spot) (unix.Errno, error) {
	var below *made
	var errno unix.Errno
	err := t.Do(s.lent, func() error {
		if errno = toErrno(unix.Mknodat(s.dir, s.path, n.mode, n.dev)); errno == 0 {
			below = n.look(s)
		}
		return nil
	})
	if err == nil && errno == unix.EPERM {
		below, errno, err = n.placeholder(t, s)
	}
	if err != nil || errno != 0 || below == nil {
		return errno, err
	}
	defer below.close()
	if below.openable() {
		return 0, nil
	}
	if err := n.bindOver(t, below); err != nil {
		return 0, errors.Join(err, remove(t, s))
	}
	return 0, nil
}

// remove takes back what was made at the spot, as the caller could.
func remove(t *target.Target, s spot) error {
	return t.Do(s.lent, func() error { return unix.Unlinkat(s.dir, s.path, 0) })
}

// look takes hold of the node just made, if it lies on a filesystem whose superblock may refuse to open it, and the
// mount does not refuse that by its own flag: a node that cannot be opened is then what the caller asked for.
func (n node) look(s spot) *made {
	m, err := take(s)
	if err != nil {
		return nil
	}
	if m.st.Mode&unix.S_IFMT != n.device.kind || m.st.Rdev != uint64(n.dev) || !m.mountedByUsers || m.nodev {
		m.close()
		return nil
	}
	return m
}

func toErrno(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
