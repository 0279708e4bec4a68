// Package rights looks at descriptors that a peer has passed over a Unix socket.
package rights

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoListener means that a descriptor is no seccomp listener.
var ErrNoListener = errors.New("not a seccomp listener")

// Passed lists the descriptors in the control data of a recvmsg(2). With an error it lists those found before it.
func Passed(control []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, message := range messages {
		if message.Header.Level != unix.SOL_SOCKET || message.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		passed, err := unix.ParseUnixRights(&message)
		if err != nil {
			return fds, err
		}
		fds = append(fds, passed...)
	}
	return fds, nil
}

// RequireListener returns an error wrapping [ErrNoListener] if fd is something else. It asks procfs: an ioctl would tell as
// well, but on a descriptor that is something else it could do anything.
func RequireListener(fd int) error {
	const listener = "anon_inode:seccomp notify"
	kind, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return fmt.Errorf("finding out what descriptor came: %w", err)
	}
	if kind != listener {
		return fmt.Errorf("%w: the descriptor that came is %.200q", ErrNoListener, kind)
	}
	return nil
}

// Close closes the descriptors.
func Close(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
