package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenAt opens path (openat(2), flags as there; O_CREAT is refused, and O_NONBLOCK, see Descriptor) exactly as the target would: in its user and mount
// namespaces, root and working directory, with all its credentials and capabilities, so that it reaches the files of
// others that a capability of the target reaches, and none of the host's. A relative path starts at dir, an own
// descriptor, or AT_FDCWD. If access is not 0 the file must also allow it to the target (faccessat2(2): unix.W_OK ...).
//
// The error wraps the kernel's errno if it is the path's; os.ErrProcessDone if the target is gone; ctx's if that ends
// first.
//
// A thread of a Go program cannot join a user namespace (the kernel wants a single-threaded process), so this forks:
// about a hundred times the cost of Do. See fork for what the child may do.
func (t *Target) OpenAt(ctx context.Context, dir int, path string, flags int, access uint32) (*os.File, error) {
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY|unix.O_NONBLOCK) != 0 {
		return nil, fmt.Errorf("open %q: flags %#o make files, or a file that is not to be polled: %w", path, flags, unix.EINVAL)
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	p, err := t.openPlace()
	if err != nil {
		return nil, entryError(err)
	}
	user, err := t.open("ns/user", unix.O_RDONLY)
	if err != nil {
		return nil, entryError(err)
	}
	defer unix.Close(user)
	var st unix.Stat_t
	if err := unix.Fstat(user, &st); err != nil {
		return nil, entryError(err)
	}
	visit := visit{
		namespace: NamespaceID{Dev: uint64(st.Dev), Ino: st.Ino},
		user:      user, mount: p.mount, root: p.root, cwd: p.cwd,
		uid: p.credentials.UIDs.Filesystem, gid: p.credentials.GIDs.Filesystem,
		groups: p.credentials.Groups,
		header: unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
		dir:    dir, path: name, flags: flags | unix.O_CLOEXEC, access: access,
	}
	for i := range visit.caps {
		visit.caps[i].Effective = uint32(p.credentials.Effective >> (32 * i))
		visit.caps[i].Permitted = uint32(p.credentials.Permitted >> (32 * i))
	}
	if err := t.confirmReads(); err != nil {
		return nil, err
	}
	fd, err := visit.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("open %q as thread %d: %w", path, t.tid, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// entryError hides an errno that is not the path's.
func entryError(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%w: %v", os.ErrProcessDone, err)
	}
	return errors.New(err.Error())
}
