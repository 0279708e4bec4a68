package capture

import (
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Source gives more of a thread. What it gives was the thread's; if that is gone, its errors wrap os.ErrProcessDone.
type Source interface {
	// Capture captures parts of the thread, or of the one that it names so unless named is 0. The descriptors are the
	// caller's to close.
	Capture(wants []*Want, named int) (captured *Captured, fds []int, err error)
	// ReadMemory copies at most MaxRead bytes at the address; of a string, up to its NUL, without that. The errno is
	// what was the matter with the memory.
	ReadMemory(address uint64, length int, isString bool) ([]byte, unix.Errno, error)
	// Alive returns an error if the thread is gone.
	Alive() error
	Close()
}

// Err is the error of a capture that failed with an errno; nil if that is 0.
func Err(errno int32) error {
	switch unix.Errno(errno) {
	case 0:
		return nil
	case unix.ESRCH:
		return fmt.Errorf("%w: %w", os.ErrProcessDone, unix.ESRCH)
	default:
		return fmt.Errorf("capturing the thread: %w", unix.Errno(errno))
	}
}

// local captures by this process's own power over the thread.
type local struct {
	tid   int
	valid func() error
	hold  *Thread // nil: valid reports whether it is the thread
}

// Waiting is a Source of the thread tid, which waits in a system call: valid returns an error if it does not, or not
// any more.
func Waiting(tid int, valid func() error) Source { return local{tid: tid, valid: valid} }

// Held is a Source of a thread, which it takes over.
func Held(t *Thread) Source { return local{tid: t.tid, valid: t.Alive, hold: t} }

func (l local) Capture(wants []*Want, named int) (*Captured, []int, error) {
	s := &Set{}
	if named == 0 {
		s.Asked(l.tid, wants)
	} else {
		s.AskedOfThread(l.tid, named, wants)
	}
	err := l.Alive()
	if err == nil {
		err = Err(s.Errno)
	}
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return &s.Captured, s.Descriptors, nil
}

func (l local) ReadMemory(address uint64, length int, isString bool) ([]byte, unix.Errno, error) {
	data, errno := ReadMemory(l.tid, address, length, isString)
	return data, errno, l.Alive()
}

// MaxRead is the largest read of a caller's memory that is asked for, in bytes.
const MaxRead = 1 << 20

// ReadMemory copies memory of the thread tid, see Source.
func ReadMemory(tid int, address uint64, length int, isString bool) ([]byte, unix.Errno) {
	switch {
	case length < 0 || length > MaxRead:
		return nil, unix.E2BIG
	case isString:
		return linux.AppendString(nil, tid, address, length)
	}
	data := make([]byte, length)
	if errno := linux.ReadMemory(tid, address, data); errno != 0 {
		return nil, errno
	}
	return data, 0
}

// Alive says that the thread is gone where it is not valid, whatever the reason.
func (l local) Alive() error {
	err := l.valid()
	if err == nil || errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
}

func (l local) Close() {
	if l.hold != nil {
		l.hold.Close()
	}
}
