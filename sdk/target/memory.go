package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// ReadMemory copies len(buf) bytes, at most 1 MiB, at address of the thread's memory into buf (process_vm_readv(2)).
// The error wraps unix.EFAULT if any byte cannot be read. The thread's process can change its memory at any time:
// read once, and decide on the copy.
func (t *Target) ReadMemory(address uint64, buf []byte) error {
	data, err := t.readMemory(&wire.ReadMemory{Address: address, Length: uint32(len(buf))})
	copy(buf, data)
	return err
}

// ReadString is like ReadMemory for a NUL-terminated string of at most max bytes, its NUL included. The error wraps
// unix.ENAMETOOLONG if it is longer.
func (t *Target) ReadString(address uint64, max int) (string, error) {
	data, err := t.readMemory(&wire.ReadMemory{Address: address, Length: uint32(max), String_: true})
	return string(data), err
}

func (t *Target) readMemory(question *wire.ReadMemory) ([]byte, error) {
	memory, err := t.source.ReadMemory(question)
	if err == nil && memory.GetErrno() != 0 {
		err = unix.Errno(memory.GetErrno())
	}
	if err != nil {
		return nil, fmt.Errorf("memory of thread %d at %#x: %w", t.tid, question.GetAddress(), err)
	}
	return memory.GetData(), nil
}
