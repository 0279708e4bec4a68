package oci

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/intercede/intercede/core/intake/rights"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

const maxDescriptors = 16

// controlSize is the room, in bytes, for one SCM_RIGHTS message of maxDescriptors descriptors and not one more.
var controlSize = unix.CmsgSpace(maxDescriptors * 4)

// ErrDescriptors is wrapped by every error about the descriptors that came with a message.
var ErrDescriptors = errors.New("not exactly one seccomp listener as the message announces")

// descriptors owns the file descriptors that one connection has received, except the one that takeListener has handed
// out. Its zero value is empty; close it on every path.
type descriptors struct {
	fds []int
}

// receive takes over the descriptors in the control data of one recvmsg, whether or not it returns an error. flags are
// what recvmsg returned. Returns an error wrapping [ErrDescriptors] if some did not fit or if an earlier recvmsg has
// brought descriptors already.
func (d *descriptors) receive(control []byte, flags int) error {
	arrived, err := rights.Passed(control)
	again := len(d.fds) > 0 && len(arrived) > 0
	d.fds = append(d.fds, arrived...)
	switch {
	case err != nil:
		return fmt.Errorf("%w: unreadable control data: %w", ErrDescriptors, err)
	case flags&unix.MSG_CTRUNC != 0:
		return fmt.Errorf("%w: the peer sent more than %d, or this process has too few left (RLIMIT_NOFILE)",
			ErrDescriptors, maxDescriptors)
	case again:
		return fmt.Errorf("%w: descriptors came in several parts", ErrDescriptors)
	}
	return nil
}

// takeListener hands out the descriptor that names says is the listener; the caller owns it. names[i] names the i-th
// descriptor. Returns an error wrapping [ErrDescriptors] if there are not as many descriptors as names or if that one is
// no seccomp listener, [ErrMessage] if names does not say which it is.
func (d *descriptors) takeListener(names []string) (*os.File, error) {
	index, err := listenerIndex(names)
	if err != nil {
		return nil, err
	}
	if len(names) != len(d.fds) {
		return nil, fmt.Errorf("%w: fds names %d and %d came", ErrDescriptors, len(names), len(d.fds))
	}
	if err := requireListener(d.fds[index]); err != nil {
		return nil, err
	}
	listener := os.NewFile(uintptr(d.fds[index]), "seccomp listener")
	d.fds = slices.Delete(d.fds, index, index+1)
	return listener, nil
}

// close closes what is still held.
func (d *descriptors) close() {
	rights.Close(d.fds)
	d.fds = nil
}

// requireListener returns an error wrapping [ErrDescriptors] if fd is not a seccomp listener.
func requireListener(fd int) error {
	if err := notify.FD(fd).RequireListener(); err != nil {
		return fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	return nil
}
