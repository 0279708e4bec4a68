package oci

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
)

// maxDescriptors is how many may come at once.
const maxDescriptors = 16

// ErrDescriptors is wrapped by every error about the descriptors that came with a message.
var ErrDescriptors = errors.New("not exactly one seccomp listener as the message announces")

// descriptors owns the file descriptors that one connection has received, except the one that takeListener has handed
// out. Its zero value is empty; close it on every path.
type descriptors struct {
	fds []int
}

// add takes over the descriptors that one recvmsg has brought, whether or not it returns an error. Returns an error
// wrapping [ErrDescriptors] if an earlier one has brought descriptors already.
func (d *descriptors) add(arrived []int) error {
	again := len(d.fds) > 0 && len(arrived) > 0
	d.fds = append(d.fds, arrived...)
	if again {
		return fmt.Errorf("%w: descriptors came in several parts", ErrDescriptors)
	}
	return nil
}

// takeListener hands out the descriptor that names says is the listener; the caller owns it. names[i] names the i-th
// descriptor. Returns an error wrapping [ErrDescriptors] if there are not as many descriptors as names or if that one
// is not a seccomp listener, [ErrMessage] if names does not say which it is.
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
	linux.CloseAll(d.fds...)
	d.fds = nil
}

// requireListener returns an error wrapping [ErrDescriptors] if fd is not a seccomp listener.
func requireListener(fd int) error {
	if err := notify.FD(fd).RequireListener(); err != nil {
		return fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	return nil
}
