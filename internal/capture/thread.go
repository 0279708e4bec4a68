package capture

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Thread is a thread held by a pidfd: its id is not another's while it lives, unless another thread of its process
// takes its place by executing a program.
type Thread struct {
	tid    int
	pidfd  int // -1: closed
	leader int // the process whose pidfd that is; 0: it is the thread's own
}

// OpenThread opens the thread tid, in this process's pid namespace (pidfd_open(2) with PIDFD_THREAD; before kernel
// 6.9 its group leader, with a check at each use that the thread still belongs to it). The error wraps
// os.ErrProcessDone if there is no such thread.
func OpenThread(tid int) (*Thread, error) {
	pidfd, err := unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	if err == unix.EINVAL {
		return openByLeader(tid)
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of thread %d: %w", tid, ProcessError(err))
	}
	return &Thread{tid: tid, pidfd: pidfd}, nil
}

func openByLeader(tid int) (*Thread, error) {
	leader, err := leaderOf(tid)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(leader, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open of process %d: %w", leader, ProcessError(err))
	}
	return &Thread{tid: tid, pidfd: pidfd, leader: leader}, nil
}

// leaderOf is the group leader of a thread, which may be a zombie: it has its number still, but not all that it had.
func leaderOf(tid int) (int, error) {
	status, err := os.ReadFile(procPath(tid, "status"))
	if err != nil {
		return 0, ProcessError(fmt.Errorf("status of thread %d: %w", tid, err))
	}
	ids := idsOf(status, "Tgid:")
	if len(ids) != 1 {
		return 0, fmt.Errorf("status of thread %d: no line Tgid", tid)
	}
	return ids[0], nil
}

// openPidfd is the pidfd that OpenThread takes.
func openPidfd(tid int) (int, unix.Errno) {
	t, err := OpenThread(tid)
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return -1, unix.ESRCH
	case err != nil:
		return -1, toErrno(err)
	}
	return t.pidfd, 0
}

// ProcessError makes ESRCH, and the ENOENT of a /proc/TID that is gone, os.ErrProcessDone too.
func ProcessError(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w: %w", os.ErrProcessDone, err)
	}
	return err
}

// Alive returns an error wrapping os.ErrProcessDone if the thread is gone. A zombie still has its number.
func (t *Thread) Alive() error {
	if err := unix.PidfdSendSignal(t.pidfd, 0, nil, 0); err != nil && err != unix.EPERM {
		return ProcessError(fmt.Errorf("thread %d: %w", t.tid, err))
	}
	if t.leader == 0 {
		return nil
	}
	if err := unix.Access(fmt.Sprintf("/proc/%d/task/%d", t.leader, t.tid), unix.F_OK); err != nil {
		return ProcessError(fmt.Errorf("thread %d of process %d: %w", t.tid, t.leader, err))
	}
	return nil
}

// Close releases the pidfd. A second Close does nothing.
func (t *Thread) Close() {
	linux.CloseAll(t.pidfd)
	t.pidfd = -1
}

// AskedOfThread captures what is asked for of the thread that has the id named in the pid namespace of the thread
// tid. The whole capture is of one thread, which lived when it was over.
func (s *Set) AskedOfThread(tid, named int, wants []*Want) {
	here, hold, errno := findThread(tid, named)
	if errno != 0 {
		s.Errno = int32(errno)
		return
	}
	defer hold.Close()
	s.Asked(here, wants)
	// The id may have become another thread's before it was open. From then on it is the open one's, as long as that
	// lives: a thread has its ids, in all namespaces, for life.
	again, errno := translate(tid, named)
	if s.Errno == 0 && (errno != 0 || again != here || hold.Alive() != nil) {
		s.Errno = int32(unix.ESRCH)
	}
}

// findThread finds and holds a thread.
func findThread(tid, named int) (here int, hold *Thread, errno unix.Errno) {
	if here, errno = translate(tid, named); errno != 0 {
		return 0, nil, errno
	}
	hold, err := OpenThread(here)
	if errors.Is(err, os.ErrProcessDone) {
		return 0, nil, unix.ESRCH
	}
	return here, hold, toErrno(err)
}

// translate gives the id, in this process's pid namespace, of the thread that has the id named in the pid namespace of
// the thread tid; ESRCH if there is none. Kernels before 6.11 cannot be asked. There it looks through the threads in
// /proc, which takes the longer the more there are in that namespace.
func translate(tid, named int) (int, unix.Errno) {
	ns, errno := openFile(procPath(tid, "ns/pid"), unix.O_RDONLY)
	if errno == unix.ENOENT {
		return 0, unix.ESRCH
	}
	if errno != 0 {
		return 0, errno
	}
	defer unix.Close(ns)
	here, err := linux.TranslatePID(ns, named)
	if errors.Is(err, unix.ENOTTY) {
		here, err = Scan(tid, named)
	}
	if err != nil {
		return 0, toErrno(err)
	}
	return here, 0
}

// exists reports whether there is a thread with the id, a zombie too.
func exists(tid int) bool { return unix.Access("/proc/"+strconv.Itoa(tid)+"/status", unix.F_OK) == nil }
