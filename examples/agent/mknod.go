package main

import (
	"errors"
	"io"
	"log/slog"
	"slices"

	"github.com/intercede/intercede/sdk/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// allowed are the character devices whose nodes are made: null, zero, full, random and urandom.
var allowed = []uint64{unix.Mkdev(1, 3), unix.Mkdev(1, 5), unix.Mkdev(1, 7), unix.Mkdev(1, 8), unix.Mkdev(1, 9)}

// container is one whose calls are answered.
type container struct {
	id        string
	namespace target.NamespaceID // its user namespace
	listener  *notify.Listener
}

// serve answers all calls until the last process of the container is gone.
func (c *container) serve() {
	defer c.listener.Close()
	for {
		n, err := c.listener.Receive()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				slog.Error("no more calls", "container", c.id, "error", err)
			}
			return
		}
		go c.answer(n)
	}
}

// errNext means that the kernel has the call.
var errNext = errors.New("not ours")

// answer answers a call, once, whatever fails.
func (c *container) answer(n *notify.Notification) {
	err := c.mknod(n)
	var errno unix.Errno
	switch {
	case err == nil:
		err = n.Return(0)
	case errors.Is(err, errNext): // the kernel checks the whole call again: it asks for CAP_MKNOD on the host
		err = n.Continue()
	case errors.Is(err, notify.ErrGone):
		return
	case errors.As(err, &errno):
		err = n.Errno(errno)
	default:
		slog.Error("a call failed", "container", c.id, "error", err)
		err = n.Errno(unix.EPERM)
	}
	if err != nil && !errors.Is(err, notify.ErrGone) {
		slog.Error("no answer", "container", c.id, "error", err)
	}
}

// mknod makes a node for the caller. The error is errNext, or wraps the errno that the caller gets.
func (c *container) mknod(n *notify.Notification) error {
	call, known := callOf(n)
	if !known || call.mode&unix.S_IFMT != unix.S_IFCHR || !slices.Contains(allowed, call.dev) {
		return errNext
	}
	caller, err := n.Target()
	if err != nil {
		return err
	}
	defer caller.Close()
	credentials, err := caller.Credentials()
	if err != nil {
		return err
	}
	if credentials.UserNamespace != c.namespace || !credentials.Effective.Has(unix.CAP_MKNOD) {
		return errNext
	}
	path, err := caller.ReadString(call.path, unix.PathMax)
	if err != nil {
		return err
	}
	dir, release, err := caller.OpenStart(call.dir, path)
	if err != nil {
		return err
	}
	defer release()
	return caller.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
		parent, name, err := target.OpenParentHere(dir, path)
		if err != nil {
			return err
		}
		defer unix.Close(parent)
		return unix.Mknodat(parent, name, call.mode, int(call.dev))
	})
}

// call is a mknod(2) or mknodat(2).
type call struct {
	dir  int
	path uint64 // address
	mode uint32
	dev  uint64
}

// numbers are those of mknodat(2), and of mknod(2), by AUDIT_ARCH_*: a number says nothing without.
var numbers = map[uint32]struct{ mknodat, mknod int }{
	unix.AUDIT_ARCH_X86_64:  {259, 133},
	unix.AUDIT_ARCH_I386:    {297, 14},
	unix.AUDIT_ARCH_AARCH64: {33, -1},
	unix.AUDIT_ARCH_ARM:     {324, 14},
}

// callOf reads the registers as the kernel does: a mode has 16 bits, a device 32, and so has an address of a 32-bit
// program.
func callOf(n *notify.Notification) (call, bool) {
	args, dir := n.Args[:], unix.AT_FDCWD
	switch known := numbers[n.Arch]; {
	case known.mknodat == 0:
		return call{}, false
	case n.Number == known.mknodat:
		args, dir = args[1:], int(int32(args[0]))
	case n.Number != known.mknod:
		return call{}, false
	}
	c := call{dir, args[0], uint32(uint16(args[1])), uint64(uint32(args[2]))}
	if is64Bit := n.Arch&0x80000000 != 0; !is64Bit { // __AUDIT_ARCH_64BIT
		c.path = uint64(uint32(c.path))
	}
	return c, true
}
