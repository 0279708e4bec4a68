package sched

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// thread is the one that a call names.
type thread struct {
	*target.Target
	caller bool // it is the calling thread, which the request holds
}

func (t thread) close() {
	if !t.caller {
		t.Close()
	}
}

// find opens the thread that the caller names. The error is one of isGone if there is none.
func find(ctx context.Context, req *sdk.Request, tid int) (thread, error) {
	caller, err := req.Target(ctx)
	if err != nil || tid == 0 {
		return thread{caller, true}, err
	}
	named, err := caller.Thread(tid)
	return thread{named, false}, err
}

// isGone reports whether the error means that a thread is not there, or not any more.
func isGone(err error) bool {
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH)
}

// state reads how the thread is scheduled.
func (t thread) state() (state, error) {
	policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(t.TID()), 0, 0)
	if errno != 0 {
		return state{}, fmt.Errorf("sched_getscheduler of thread %d: %w", t.TID(), errno)
	}
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, t.TID())
	if err != nil {
		return state{}, fmt.Errorf("getpriority of thread %d: %w", t.TID(), err)
	}
	return state{
		policy:      uint32(policy) &^ unix.SCHED_RESET_ON_FORK,
		resetOnFork: policy&unix.SCHED_RESET_ON_FORK != 0,
		nice:        20 - int32(nice), // the system call adds 20, so that it is no errno (getpriority(2))
	}, nil
}

// apply makes the change. The errno is the kernel's.
func (t thread) apply(c change) unix.Errno {
	switch c.call {
	case setAttr:
		return toErrno(unix.SchedSetAttr(t.TID(), &c.attr, 0))
	case setPriority:
		return toErrno(unix.Setpriority(unix.PRIO_PROCESS, t.TID(), int(c.attr.Nice)))
	case setIOPriority:
		_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(t.TID()), uintptr(c.ioPriority))
		return errno
	default:
		return setscheduler(t.TID(), c.attr)
	}
}

// setscheduler is sched_setscheduler(2), which leaves the thread its nice value, as sched_setattr(2) cannot.
func setscheduler(tid int, attr unix.SchedAttr) unix.Errno {
	policy := attr.Policy
	if attr.Flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
		policy |= unix.SCHED_RESET_ON_FORK
	}
	_, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(policy), uintptr(unsafe.Pointer(&attr.Priority)))
	return errno
}

func toErrno(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
