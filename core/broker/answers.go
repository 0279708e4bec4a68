package broker

import "golang.org/x/sys/unix"

// Answers is how a notification's caller is answered: a listener, or a connection to a program that has one. An id that
// nobody waits for any more is notify.ErrGone.
type Answers interface {
	Valid(id uint64) bool
	SendValue(id uint64, value int64) error
	SendErrno(id uint64, errno unix.Errno) error
	SendContinue(id uint64) error
	// SendFD puts the own descriptor src into the caller's table and answers with its number, which it returns.
	SendFD(id uint64, src int, closeOnExec bool) (int, error)
}
