package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// ReadMemory copies len(buf) bytes at address of the thread's memory into buf (process_vm_readv(2)), and confirms that
// it was the thread's (see Confirm): if not, its error says so, and buf is not to be used. The error wraps unix.EFAULT
// if any byte cannot be read. The thread's process can change its memory at any time: read once, and decide on the
// copy.
//
// A plugin has Request.Read for this, which works without a capability.
func (t *Target) ReadMemory(address uint64, buf []byte) error {
	return t.memoryError(address, linux.ReadMemory(t.tid, address, buf))
}

// ReadString is like ReadMemory for a NUL-terminated string of at most max bytes, its NUL included. The error wraps
// unix.ENAMETOOLONG if it is longer.
func (t *Target) ReadString(address uint64, max int) (string, error) {
	text, errno := linux.AppendString(nil, t.tid, address, max)
	if err := t.memoryError(address, errno); err != nil {
		return "", err
	}
	return string(text), nil
}

// memoryError comes after a read of the thread's memory that gave errno.
func (t *Target) memoryError(address uint64, errno unix.Errno) error {
	if err := t.Confirm(); err != nil {
		return err
	}
	if errno != 0 {
		return processError(fmt.Errorf("memory of thread %d at %#x: %w", t.tid, address, errno))
	}
	return nil
}
