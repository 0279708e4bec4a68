package target

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// InUserNamespace reports whether the thread's user namespace is the given one, or lies below it. Without an error the
// thread lived when that was known. The process needs CAP_SYS_PTRACE.
func (t *Target) InUserNamespace(id NamespaceID) (bool, error) {
	ns, err := t.open("ns/user", unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	in, err := isOrLiesBelow(ns, id)
	if err != nil {
		return false, err
	}
	return in, t.endRead()
}

// MountNamespaceOwner identifies the user namespace that owns the thread's mount namespace: mounting there needs
// CAP_SYS_ADMIN in it.
func (t *Target) MountNamespaceOwner() (NamespaceID, error) {
	p, err := t.openPlace()
	if err != nil {
		return NamespaceID{}, err
	}
	owner, err := unix.IoctlRetInt(p.mount, unix.NS_GET_USERNS)
	if err != nil {
		return NamespaceID{}, fmt.Errorf("owner of the mount namespace of thread %d: %w", t.tid, err)
	}
	defer unix.Close(owner)
	return fstatNamespace(owner)
}

// OpenUserNamespace opens the thread's user namespace; the caller closes the descriptor.
func (t *Target) OpenUserNamespace() (int, error) { return t.open("ns/user", unix.O_RDONLY) }

// openUserNamespace opens the thread's user namespace and identifies it.
func (t *Target) openUserNamespace() (int, NamespaceID, error) {
	fd, err := t.OpenUserNamespace()
	if err != nil {
		return -1, NamespaceID{}, err
	}
	id, err := fstatNamespace(fd)
	if err != nil {
		unix.Close(fd)
		return -1, NamespaceID{}, err
	}
	return fd, id, nil
}

// isOrLiesBelow goes up from the user namespace ns, which it closes.
func isOrLiesBelow(ns int, id NamespaceID) (bool, error) {
	for {
		at, err := fstatNamespace(ns)
		if err != nil || at == id {
			unix.Close(ns)
			return err == nil, err
		}
		ns, err = openParentNamespace(ns)
		if err == unix.EPERM { // it has none, or none that this process is in
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("parent of a user namespace: %w", err)
		}
	}
}

// openParentNamespace opens the parent of a user or pid namespace, which it closes.
func openParentNamespace(ns int) (int, error) {
	defer unix.Close(ns)
	return unix.IoctlRetInt(ns, unix.NS_GET_PARENT)
}

func fstatNamespace(ns int) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(ns, &st); err != nil {
		return NamespaceID{}, fmt.Errorf("fstat of a namespace: %w", err)
	}
	return NamespaceID{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}
