package linux

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic is a time on CLOCK_MONOTONIC, in ns, which processes of one time namespace have in common.
func Monotonic(t time.Time) uint64 { return uint64(max(monotonicNow()+time.Until(t).Nanoseconds(), 1)) }

// FromMonotonic is the inverse of Monotonic.
func FromMonotonic(ns uint64) time.Time {
	return time.Now().Add(time.Duration(int64(ns) - monotonicNow()))
}

// CoarseNow is the time on CLOCK_REALTIME_COARSE in ns. The kernel stamps inodes with it (current_time, fs/inode.c), or
// with a later time of CLOCK_REALTIME (multigrain timestamps, kernel 6.13).
func CoarseNow() uint64 {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) // it does not fail (clock_gettime(2))
	return uint64(now.Nano())
}

// ThreadTime is the processor time that the calling thread has had.
func ThreadTime() time.Duration {
	var had unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &had) // it does not fail (clock_gettime(2))
	return time.Duration(had.Nano())
}

// monotonicNow asks Go's clock, which is CLOCK_MONOTONIC too, and asks the kernel without a system call.
func monotonicNow() int64 {
	begin := monotonicBegin()
	return begin.ns + int64(time.Since(begin.time))
}

// instant is a time by both clocks, up to what passed between looking at the one and at the other.
type instant struct {
	time time.Time
	ns   int64
}

var monotonicBegin = sync.OnceValue(func() instant {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // it does not fail (clock_gettime(2))
	return instant{time.Now(), now.Nano()}
})
