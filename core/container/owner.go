package container

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of namespaces (ioctl_ns(2)).
const (
	nsGetParent   = 0xb702 // _IO(0xb7, 0x2)
	nsGetOwnerUID = 0xb704 // _IO(0xb7, 0x4)
)

// ErrNotOwner means that a peer speaks for a container that is not its own.
var ErrNotOwner = errors.New("the peer is neither root nor the owner of the container's user namespace")

// CheckPeer returns an error wrapping [ErrNotOwner] if a process of this user has no right over the container's tasks: it is
// neither root nor the owner of the container's user namespace or of one above it, whom the kernel gives all
// capabilities there (user_namespaces(7)). nil is a peer that needs no right.
func (c *Container) CheckPeer(uid *uint32) error {
	if uid == nil || *uid == 0 {
		return nil
	}
	owns, err := ownsNamespace(int(c.namespace.Fd()), *uid)
	if err != nil {
		return fmt.Errorf("owner of the user namespace: %w", err)
	}
	if !owns {
		return fmt.Errorf("%w: user id %d", ErrNotOwner, *uid)
	}
	return nil
}

// ownsNamespace goes up from the user namespace ns, which stays open, as far as this process sees.
func ownsNamespace(ns int, uid uint32) (bool, error) {
	at, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	for {
		owner, err := namespaceOwner(at)
		if err != nil || owner == uid {
			unix.Close(at)
			return err == nil, err
		}
		parent, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(at), nsGetParent, 0)
		unix.Close(at)
		if errno == unix.EPERM { // it has none, or none that this process is in
			return false, nil
		}
		if errno != 0 {
			return false, errno
		}
		at = int(parent)
	}
}

func namespaceOwner(ns int) (uint32, error) {
	var uid uint32
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), nsGetOwnerUID, uintptr(unsafe.Pointer(&uid)))
	if errno != 0 {
		return 0, errno
	}
	return uid, nil
}
