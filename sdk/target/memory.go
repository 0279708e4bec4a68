package target

import (
	"fmt"
)

// ReadMemory copies len(buf) bytes, at most 1 MiB, at address of the thread's memory into buf (process_vm_readv(2)).
// The error wraps unix.EFAULT if any byte cannot be read. The thread's process can change its memory at any time:
// read once, and decide on the copy.
func (t *Target) ReadMemory(address uint64, buf []byte) error {
	data, err := t.readMemory(address, len(buf), false)
	copy(buf, data)
	return err
}

// ReadString is like ReadMemory for a NUL-terminated string of at most max bytes, its NUL included. The error wraps
// unix.ENAMETOOLONG if it is longer.
func (t *Target) ReadString(address uint64, max int) (string, error) {
	data, err := t.readMemory(address, max, true)
	return string(data), err
}

func (t *Target) readMemory(address uint64, length int, isString bool) ([]byte, error) {
	data, errno, err := t.source.ReadMemory(address, length, isString)
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return nil, fmt.Errorf("memory of thread %d at %#x: %w", t.tid, address, err)
	}
	return data, nil
}
