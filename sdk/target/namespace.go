package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/capture"
	"golang.org/x/sys/unix"
)

// NamespaceID identifies a namespace while something holds it open: stat(2) of its file in nsfs (namespaces(7)).
type NamespaceID struct {
	Dev, Ino uint64
}

// StatNamespace identifies the namespace whose file path is, "/proc/1/ns/user" for example. The error wraps
// os.ErrProcessDone if it is not there.
func StatNamespace(path string) (NamespaceID, error) {
	id, err := capture.StatNamespace(path)
	if err != nil {
		return NamespaceID{}, capture.ProcessError(err)
	}
	return NamespaceID(id), nil
}

// UserNamespace identifies the thread's user namespace.
func (t *Target) UserNamespace() (NamespaceID, error) {
	credentials, err := t.Credentials()
	if err != nil {
		return NamespaceID{}, err
	}
	return credentials.UserNamespace, nil
}

// InUserNamespace reports whether the thread's user namespace is the given one, or lies below it.
func (t *Target) InUserNamespace(id NamespaceID) (bool, error) {
	ns, err := t.OpenUserNamespace()
	if err != nil {
		return false, err
	}
	return capture.LiesWithin(ns, capture.NamespaceID(id))
}

// OpenUserNamespace opens the thread's user namespace; the caller closes the descriptor.
func (t *Target) OpenUserNamespace() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.borrow(capture.PartUserNamespace)
	if err != nil {
		return -1, err
	}
	fd, err := unix.FcntlInt(uintptr(h.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("copy a descriptor: %w", err)
	}
	return fd, nil
}

// openUserNamespace opens the thread's user namespace and identifies it.
func (t *Target) openUserNamespace() (int, NamespaceID, error) {
	fd, err := t.OpenUserNamespace()
	if err != nil {
		return -1, NamespaceID{}, err
	}
	id, err := capture.FstatNamespace(fd)
	if err != nil {
		unix.Close(fd)
		return -1, NamespaceID{}, err
	}
	return fd, NamespaceID(id), nil
}

// MountNamespaceOwner identifies the user namespace that owns the thread's mount namespace: mounting there needs
// CAP_SYS_ADMIN in it.
func (t *Target) MountNamespaceOwner() (NamespaceID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h, err := t.borrow(capture.PartMountNamespace)
	if err != nil {
		return NamespaceID{}, err
	}
	owner, err := unix.IoctlRetInt(h.fd, unix.NS_GET_USERNS)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("owner of the mount namespace of thread %d: %w", t.tid, err)
	}
	defer unix.Close(owner)
	id, err := capture.FstatNamespace(owner)
	return NamespaceID(id), err
}
