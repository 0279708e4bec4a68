// Package notify answers the notifications of a seccomp listener without the broker, for agents of their own
// (seccomp_unotify(2)). A plugin does not need it: the broker receives for it, and answers.
//
// An agent gets a listener from an OCI runtime that connects to linux.seccomp.listenerPath, or from whoever loaded the
// filter with SECCOMP_FILTER_FLAG_NEW_LISTENER. While no process has it, each call that the filter notifies fails with
// ENOSYS. So answer every notification that Receive returns, exactly once, in time, and whatever fails.
package notify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// ErrGone means that nobody waits for an answer to the notification any more: the caller was killed, a signal
// interrupted its call, or it has been answered.
var ErrGone = notify.ErrGone

// Listener receives the notifications of one filter.
type Listener struct {
	file *os.File
	fd   notify.FD
	wake *os.File // an eventfd, which Close makes readable

	receiving sync.Mutex
	mu        sync.RWMutex // held for reading by whoever uses the descriptors
	closed    bool
	ending    sync.Once
}

// NewListener takes the file over. It fails, and leaves the file to the caller, if that is not a seccomp listener.
func NewListener(file *os.File) (*Listener, error) {
	fd := notify.FD(file.Fd())
	if err := fd.RequireListener(); err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &Listener{file: file, fd: fd, wake: os.NewFile(uintptr(wake), "eventfd")}, nil
}

// Receive waits for the next notification. It may be called concurrently. The error is io.EOF when the last filtered
// task is gone, os.ErrClosed after Close; after any error the listener is of no more use.
func (l *Listener) Receive() (*Notification, error) {
	// Of two that receive at a time one could wait for ever in the kernel, beyond the reach of Close.
	l.receiving.Lock()
	defer l.receiving.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, os.ErrClosed
	}
	for {
		if err := l.wait(); err != nil {
			return nil, err
		}
		var raw notify.Notification
		err := l.fd.Receive(&raw)
		if errors.Is(err, ErrGone) {
			continue // its caller went before it was received
		}
		if err != nil {
			return nil, err
		}
		return &Notification{ID: raw.ID, TID: int(raw.TID), Number: int(raw.NR), Arch: raw.Arch, Args: raw.Args, listener: l}, nil
	}
}

// wait waits until there is a notification.
func (l *Listener) wait() error {
	poll := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(l.wake.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(poll, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("poll of a listener: %w", err)
		case poll[1].Revents != 0:
			return os.ErrClosed
		case poll[0].Revents&unix.POLLIN != 0:
			return nil
		case poll[0].Revents&(unix.POLLHUP|unix.POLLNVAL) != 0:
			return io.EOF
		}
		// POLLERR alone means that a signal came (seccomp_notify_poll, kernel/seccomp.c).
	}
}

// Close ends Receive and closes the listener. Callers that nobody has answered, and later ones, get ENOSYS, unless
// another process has the listener too. A second Close does nothing.
func (l *Listener) Close() error {
	l.ending.Do(func() {
		l.wake.Write([]byte{1, 0, 0, 0, 0, 0, 0, 0}) // it cannot fail: nobody else writes this eventfd
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closed = true
		l.wake.Close()
		l.file.Close()
	})
	return nil
}

// Notification is one system call that waits for its answer: that of the first method that answers. Its methods may be
// called concurrently.
type Notification struct {
	ID     uint64 // unique to the listener
	TID    int    // the calling thread in this process's pid namespace; 0: it is not visible there
	Number int    // of the system call, on the caller's architecture
	Arch   uint32 // AUDIT_ARCH_* (audit.h): identify a call by both
	Args   [6]uint64

	listener *Listener
}

// use calls fn with the listener while that cannot be closed; os.ErrClosed if it is.
func (n *Notification) use(fn func(notify.FD) error) error {
	n.listener.mu.RLock()
	defer n.listener.mu.RUnlock()
	if n.listener.closed {
		return os.ErrClosed
	}
	return fn(n.listener.fd)
}

// Valid returns ErrGone if the caller no longer waits (SECCOMP_IOCTL_NOTIF_ID_VALID).
func (n *Notification) Valid() error {
	return n.use(func(fd notify.FD) error {
		if !fd.Valid(n.ID) {
			return ErrGone
		}
		return nil
	})
}

// Target is the calling thread, to read its memory and credentials and to act in its place. Each of its methods
// captures what it needs, and makes sure that the caller still waited then: its error wraps ErrGone if not. The
// caller of Target closes it. The error is ErrGone, or says what could not be opened.
func (n *Notification) Target() (*target.Target, error) {
	if n.TID == 0 {
		return nil, errors.New("the caller is in a pid namespace that this process does not see")
	}
	t := target.Waiting(n.TID, n.Valid)
	return t, t.Alive()
}

// Return makes the call return value. Like the other answers it returns ErrGone if nobody waits.
func (n *Notification) Return(value int64) error {
	return n.use(func(fd notify.FD) error { return fd.SendValue(n.ID, value) })
}

// Errno makes the call fail with errno, 1 to 4095.
func (n *Notification) Errno(errno syscall.Errno) error {
	if errno < 1 || errno > maxErrno {
		return fmt.Errorf("errno %d: want 1 to %d", int(errno), maxErrno)
	}
	return n.use(func(fd notify.FD) error { return fd.SendErrno(n.ID, errno) })
}

// maxErrno is the largest errno that a system call can return (MAX_ERRNO, include/linux/err.h).
const maxErrno = 4095

// Continue lets the kernel perform the call itself. The caller may have changed its memory since it was read: Continue
// is safe only where the kernel checks the whole call again.
func (n *Notification) Continue() error {
	return n.use(func(fd notify.FD) error { return fd.SendContinue(n.ID) })
}

// AddFD puts file into the caller's descriptor table and makes the call return its number there, in one step (kernel
// 5.14). It returns that number. The file stays the agent's to close. After an error that does not wrap ErrGone, such
// as unix.EMFILE for a table that is full, the caller still waits for an answer.
func (n *Notification) AddFD(file *os.File, closeOnExec bool) (number int, err error) {
	err = n.use(func(fd notify.FD) error {
		number, err = fd.SendFD(n.ID, int(file.Fd()), closeOnExec)
		return err
	})
	return number, err
}
