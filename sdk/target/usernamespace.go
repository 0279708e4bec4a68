package target

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// nsGetParent opens the parent of a user or pid namespace (NS_GET_PARENT, ioctl_ns(2)).
const nsGetParent = 0xb702 // _IO(0xb7, 0x2)

// InUserNamespace says whether the thread's user namespace is the given one, or lies below it. Without an error the thread
// lived when that was known. The process needs CAP_SYS_PTRACE.
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
	parent, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), nsGetParent, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(parent), nil
}

func fstatNamespace(ns int) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(ns, &st); err != nil {
		return NamespaceID{}, fmt.Errorf("fstat of a namespace: %w", err)
	}
	return NamespaceID{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}
