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

// clockSlack bounds what passes between looking at two clocks.
const clockSlack = time.Millisecond

// ReadClock returns what a clock of the kernel says (clock_gettime(2)), and the time then, which may be a millisecond
// too early. It looks again where the thread had to wait for a processor between looking at the two.
func ReadClock(clock int32) (at time.Time, reading time.Duration) {
	for {
		var now unix.Timespec
		at = time.Now()
		unix.ClockGettime(clock, &now) // it does not fail for a clock that there is
		if time.Since(at) < clockSlack {
			return at, time.Duration(now.Nano())
		}
	}
}

// monotonicNow asks Go's clock, which is CLOCK_MONOTONIC too, and asks the kernel without a system call.
func monotonicNow() int64 {
	begin := monotonicBegin()
	return begin.ns + int64(time.Since(begin.time))
}

// instant is a time by both clocks, see ReadClock.
type instant struct {
	time time.Time
	ns   int64
}

var monotonicBegin = sync.OnceValue(func() instant {
	at, reading := ReadClock(unix.CLOCK_MONOTONIC)
	return instant{at, reading.Nanoseconds()}
})
