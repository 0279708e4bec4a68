// Package linux has the primitives of Linux that more than one package needs, where golang.org/x/sys/unix lacks them or
// has a part of them: messages with descriptors, what belongs to one thread, detached mounts, files read with a bound.
package linux

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// CloseAll closes descriptors (close(2)). Negative ones stand for none.
func CloseAll(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Socketpair makes two Unix sockets that are connected with each other, close-on-exec. Kind is their type, for example
// unix.SOCK_SEQPACKET, with unix.SOCK_NONBLOCK if wanted (socketpair(2)).
func Socketpair(kind int) (ours, theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make a pair of sockets: %w", os.NewSyscallError("socketpair", err))
	}
	return pair[0], pair[1], nil
}

// SocketpairFiles is Socketpair for files that have this name.
func SocketpairFiles(kind int, name string) (ours, theirs *os.File, err error) {
	a, b, err := Socketpair(kind)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(a), name), os.NewFile(uintptr(b), name), nil
}
