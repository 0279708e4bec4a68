package broker

import "golang.org/x/sys/unix"

// Answers answers the caller of a notification: a listener does, or a connection to a program that has one. If nobody
// waits for the answer to an id any more, the error is notify.ErrGone.
type Answers interface {
	Valid(id uint64) bool
	SendValue(id uint64, value int64) error
	// SendValueDoubting returns notify.ErrGone whenever the kernel finds nobody who waits, and reports whether the
	// answer may be lost although it found somebody: see notify.FD.
	SendValueDoubting(id uint64, value int64) (doubtful bool, err error)
	SendErrno(id uint64, errno unix.Errno) error
	SendContinue(id uint64) error
	// SendFD adds this process's descriptor src to the caller's table and answers with its number, which it returns.
	SendFD(id uint64, src int, closeOnExec bool) (int, error)
}
