// Package target reaches the thread that made a system call and waits for the answer: its memory, credentials,
// namespaces and descriptors, and running code in its place.
//
// The thread belongs to a container, which is not trusted: everything read from it is its own word, but for what the
// kernel says in /proc. A thread id is not a process id, and both are reused: a Target holds a pidfd, and what is read
// through /proc/TID counts only if the thread still lives afterwards; every method checks that and returns an error
// wrapping os.ErrProcessDone if it does not.
//
// For a thread that waits in a system call that is not enough: when another thread of its process executes a program,
// that one gets its id, its struct pid and so what its pidfd leads to (de_thread, fs/exec.c). Who knows whether it
// still waits in the call says so by ConfirmBy. Then what is read counts only if it still waits afterwards, and methods
// that act for the thread ask that themselves, once, after the last thing that was read.
package target

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/intercede/intercede/internal/pause"
	"golang.org/x/sys/unix"
)

// Target is a thread of another process. Its methods may be called concurrently, Close excepted.
type Target struct {
	tid    int
	pidfd  int // -1: none
	leader int // the process whose pidfd that is; 0: it is the thread's own

	own *Thread

	waits     func() error // nil: it is not known to wait in a call, and has a pidfd
	reads     atomic.Uint64
	confirmed atomic.Uint64 // how many of the reads were made before the last successful Confirm began

	credentialsOnce sync.Once
	credentials     Credentials
	credentialsErr  error

	placeOnce sync.Once
	place     *Place
	placeErr  error
}

// Open opens the thread tid, in this process's pid namespace (pidfd_open(2) with PIDFD_THREAD; before kernel 6.9 its
// group leader, with a check at each use that the thread still belongs to it). The error wraps os.ErrProcessDone if
// there is no such thread.
func Open(tid int) (*Target, error) {
	pidfd, err := unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	if err == nil {
		return &Target{tid: tid, pidfd: pidfd}, nil
	}
	if err == unix.EINVAL {
		return openLeader(tid)
	}
	return nil, fmt.Errorf("pidfd_open of thread %d: %w", tid, processError(err))
}

// Waiting is the thread tid, which waits in a system call: waits returns an error if it does not, or not any more. So
// it needs no pidfd: a thread that still waits has not lost its number. See Confirm.
func Waiting(tid int, waits func() error) *Target { return &Target{tid: tid, pidfd: -1, waits: waits} }

func openLeader(tid int) (*Target, error) {
	credentials, err := readCredentials(tid)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(credentials.TGID, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of process %d: %w", credentials.TGID, processError(err))
	}
	return &Target{tid: tid, pidfd: pidfd, leader: credentials.TGID}, nil
}

// processError makes ESRCH, and the ENOENT of a /proc/TID that is gone, os.ErrProcessDone too.
func processError(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	return err
}

// Close releases the pidfd, and what was opened of the thread's place. A second Close does nothing.
func (t *Target) Close() error {
	if t.place != nil {
		t.place.close()
	}
	if t.pidfd < 0 {
		return nil
	}
	fd := t.pidfd
	t.pidfd = -1
	return unix.Close(fd)
}

// Confirm returns an error if the thread no longer waits in its call, see Waiting; of another Target, if it is gone.
// What was read of it before a successful call was this thread's, by whatever way it was read.
func (t *Target) Confirm() error {
	if t.waits == nil {
		return t.Alive()
	}
	reads := t.reads.Load()
	pause.At(pause.Captured)
	if err := t.waits(); err != nil {
		return err
	}
	t.confirmed.Store(reads)
	pause.At(pause.Valid)
	return nil
}

// confirmReads is Confirm if there was a read after the last one. It comes after the last read and before what is done
// with it.
func (t *Target) confirmReads() error {
	if t.waits != nil && t.reads.Load() == t.confirmed.Load() {
		return nil
	}
	return t.Confirm()
}

// endRead comes after each read through /proc/TID or the pidfd. What was read is to be confirmed; where nobody can do
// that, it counts if the thread lives.
func (t *Target) endRead() error {
	if t.waits == nil {
		return t.Alive()
	}
	t.reads.Add(1)
	pause.At(pause.Capture)
	return nil
}

// TID is the thread's id in this process's pid namespace.
func (t *Target) TID() int { return t.tid }

// Alive returns an error wrapping os.ErrProcessDone if the thread is gone. A zombie still has its number. What was read
// by the thread's number before a successful call, through /proc/TID or by [ReadMemory], was this thread's, unless
// another took its place by executing a program: see Confirm.
func (t *Target) Alive() error {
	if t.waits != nil {
		return t.Confirm()
	}
	if err := unix.PidfdSendSignal(t.pidfd, 0, nil, 0); err != nil && err != unix.EPERM {
		return processError(fmt.Errorf("thread %d: %w", t.tid, err))
	}
	if t.leader == 0 {
		return nil
	}
	if err := unix.Access(fmt.Sprintf("/proc/%d/task/%d", t.leader, t.tid), unix.F_OK); err != nil {
		return processError(fmt.Errorf("thread %d of process %d: %w", t.tid, t.leader, err))
	}
	return nil
}

// proc is the path of a file of the thread in /proc.
func (t *Target) proc(name string) string { return "/proc/" + strconv.Itoa(t.tid) + "/" + name }

// open opens a file of the thread in /proc.
func (t *Target) open(name string, flags int) (int, error) {
	fd, err := unix.Open(t.proc(name), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, processError(&os.PathError{Op: "open", Path: t.proc(name), Err: err})
	}
	if err := t.endRead(); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// openPidfd is a pidfd of the thread, or what Open takes where the kernel has none. It is to be released.
func (t *Target) openPidfd() (pidfd int, release func(), err error) {
	if t.pidfd >= 0 {
		return t.pidfd, func() {}, nil
	}
	opened, err := Open(t.tid)
	if err != nil {
		return -1, nil, err
	}
	return opened.pidfd, func() { opened.Close() }, nil
}

// Descriptor duplicates the thread's descriptor fd (pidfd_getfd(2)), close-on-exec; the caller closes it. The error
// wraps unix.EBADF if the thread has none such.
//
// The duplicate shares its open file description with the target. It is not for os.NewFile: the Go runtime polls a
// description that has O_NONBLOCK, and a filesystem that the target serves (FUSE) can hold up for ever who does that,
// the whole runtime with it.
func (t *Target) Descriptor(fd int) (int, error) {
	if fd < 0 {
		return -1, fmt.Errorf("descriptor %d of thread %d: %w", fd, t.tid, unix.EBADF)
	}
	pidfd, release, err := t.openPidfd()
	if err != nil {
		return -1, err
	}
	defer release()
	copied, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, processError(fmt.Errorf("descriptor %d of thread %d: %w", fd, t.tid, err))
	}
	if err := t.endRead(); err != nil {
		unix.Close(copied)
		return -1, err
	}
	return copied, nil
}
