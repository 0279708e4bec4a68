package linux

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Priority is how much threads come before others (sched(7)). The zero Priority is that of most.
type Priority struct {
	FIFO int // the priority of SCHED_FIFO, 1 to 99; 0: SCHED_OTHER
	Nice int // with SCHED_OTHER
}

// ThreadPriority reads that of a thread; 0 is the calling one. Other policies than SCHED_FIFO count as SCHED_OTHER.
func ThreadPriority(tid int) (Priority, error) {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return Priority{}, fmt.Errorf("sched_getattr: %w", err)
	}
	if attr.Policy == unix.SCHED_FIFO {
		return Priority{FIFO: int(attr.Priority)}, nil
	}
	return Priority{Nice: int(attr.Nice)}, nil
}

const (
	// quietPasses over the threads change none before SetProcessPriority is done, and quietTime lies between them.
	quietPasses = 3
	quietTime   = 10 * time.Millisecond
)

// SetProcessPriority sets that of all threads of this process. Those that it makes later have it too, and so do its
// children. The error wraps the errno: EPERM without CAP_SYS_NICE, and where the cgroup has no real-time runtime.
func SetProcessPriority(p Priority) error {
	// A thread that is being made has the priority that its maker had, and is not there to be seen yet. The call that
	// would reach it (syscall.AllThreadsSyscall) is not for programs with cgo.
	for quiet := 0; quiet < quietPasses; quiet++ {
		changed, err := p.setThreads()
		if err != nil {
			return err
		}
		if changed {
			quiet = 0
		}
		time.Sleep(quietTime)
	}
	return nil
}

// setThreads sets that of the threads that are there. It reports whether one had another.
func (p Priority) setThreads() (changed bool, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		has, err := ThreadPriority(tid)
		if err == nil && has != p {
			changed = true
			err = p.set(tid)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return false, err
		}
	}
	return changed, nil
}

func (p Priority) set(tid int) error {
	attr := unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: int32(p.Nice)}
	if p.FIFO != 0 {
		attr = unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: uint32(p.FIFO)}
	}
	if err := unix.SchedSetAttr(tid, &attr, 0); err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}
