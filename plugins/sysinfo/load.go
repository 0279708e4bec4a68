package main

import (
	"math"
	"sync"
	"time"
)

// loadInterval is the shortest time between two samples (LOAD_FREQ, linux/sched/loadavg.h).
const loadInterval = 5 * time.Second

// loadPeriods are what the three averages decay over.
var loadPeriods = [3]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}

// loadAverage is the container's load: exponentially decaying averages of its active tasks, as the kernel's are of
// the host's. Nothing runs between calls: the number of tasks that a call finds is taken for the whole time since the
// sample before.
type loadAverage struct {
	mu       sync.Mutex
	averages [3]float64
	sampled  time.Duration // on the boot-time clock
	next     time.Duration
}

func newLoadAverage(now time.Duration) *loadAverage {
	return &loadAverage{sampled: now, next: now + loadInterval}
}

// update takes a sample if the last is old enough, and gives the averages as sysinfo(2) has them. A sample that costs
// much makes the next wait longer.
func (l *loadAverage) update(now time.Duration, sample func() (active int, cost time.Duration)) [3]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now >= l.next {
		active, cost := sample()
		for i, period := range loadPeriods {
			l.averages[i] = decay(l.averages[i], float64(active), now-l.sampled, period)
		}
		l.sampled = now
		l.next = now + max(loadInterval, reuse*cost)
	}
	var fixed [3]uint64
	for i, average := range l.averages {
		fixed[i] = uint64(average*(1<<loadShift) + 0.5)
	}
	return fixed
}

// decay moves an average towards what was active for the time elapsed.
func decay(average, active float64, elapsed, period time.Duration) float64 {
	keep := math.Exp(-elapsed.Seconds() / period.Seconds())
	return average*keep + active*(1-keep)
}
