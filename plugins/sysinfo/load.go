package sysinfo

import (
	"context"
	"math"
	"sync"
	"time"
)

// loadInterval is the time between two samples (LOAD_FREQ, linux/sched/loadavg.h).
const loadInterval = 5 * time.Second

// loadPeriods are what the three averages decay over.
var loadPeriods = [3]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute}

// loadAverage is the container's load: exponentially decaying averages of its active tasks, as the kernel's are of
// the host's.
type loadAverage struct {
	end context.CancelFunc // of its samples; nil: none are taken

	mu       sync.Mutex
	averages [3]float64
	sampled  time.Duration // on the boot-time clock
}

// sampling is held while a sample is taken, and for reuse times as long: so the samples of all containers together take
// a bounded part of one processor's time.
var sampling sync.Mutex

// keepLoad takes samples of the tasks until the averages are closed.
func keepLoad(h *host, t *tasks) *loadAverage {
	ctx, end := context.WithCancel(context.Background())
	l := &loadAverage{end: end, sampled: h.now()}
	go func() {
		for wait(ctx, loadInterval) {
			l.sample(ctx, h, t)
		}
	}()
	return l
}

func (l *loadAverage) close() { l.end() }

func (l *loadAverage) sample(ctx context.Context, h *host, t *tasks) {
	sampling.Lock()
	defer sampling.Unlock()
	active, cost := t.active(ctx)
	if ctx.Err() == nil {
		l.add(h.now(), active)
	}
	time.Sleep(reuse * cost)
}

// wait reports whether the time has passed, and the context has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// add takes the number of active tasks for that of the whole time since the sample before.
func (l *loadAverage) add(now time.Duration, active int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, period := range loadPeriods {
		l.averages[i] = decay(l.averages[i], float64(active), now-l.sampled, period)
	}
	l.sampled = now
}

// fixed gives the averages as sysinfo(2) has them.
func (l *loadAverage) fixed() (fixed [3]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
