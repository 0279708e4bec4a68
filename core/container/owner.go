package container

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrNotOwner means that a peer speaks for a container that is not its own.
var ErrNotOwner = errors.New("the peer is neither root nor the owner of the container's user namespace")

// CheckPeer returns an error wrapping [ErrNotOwner] if a process of this user has no right over the container's tasks:
// it is neither root nor the owner of the container's user namespace or of one above it, whom the kernel gives all
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

// isOfRoot reports whether root of the host made the container's user namespace and brought the container.
func (c *Container) isOfRoot() bool {
	owner, err := unix.IoctlGetUint32(int(c.namespace.Fd()), unix.NS_GET_OWNER_UID)
	return err == nil && owner == 0 && c.Trusted()
}

// ownsNamespace goes up from the user namespace ns, which stays open, as far as this process sees.
func ownsNamespace(ns int, uid uint32) (bool, error) {
	at, err := unix.FcntlInt(uintptr(ns), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	for {
		owner, err := unix.IoctlGetUint32(at, unix.NS_GET_OWNER_UID)
		if err != nil || owner == uid {
			unix.Close(at)
			return err == nil, err
		}
		parent, err := unix.IoctlRetInt(at, unix.NS_GET_PARENT)
		unix.Close(at)
		if err == unix.EPERM { // it has none, or none that this process is in
			return false, nil
		}
		if err != nil {
			return false, err
		}
		at = parent
	}
}
