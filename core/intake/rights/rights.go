// Package rights looks at descriptors that a peer has passed over a Unix socket.
package rights

import (
	"golang.org/x/sys/unix"
)

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

// Close closes the descriptors.
func Close(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
