package broker

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

const (
	// lookInterval is how often the broker looks at its threads while calls come.
	lookInterval = 10 * time.Millisecond
	// quietLooks without a call end that.
	quietLooks = 100
)

// processors keeps each thread that handles calls on one processor while calls come, and so do the plugins' threads that
// it works with: caller, worker and plugin wait for each other, so one processor is enough for them, and waking another
// costs more than all that they do.
//
// A thread that is kept does not run while something else has its processor, as a real-time thread has it for seconds,
// and cannot find that out itself. So the broker looks at its threads now and then. One that is late may run anywhere,
// and keeps to a processor again when it has come to run on one. When no calls have come for a while none is kept, and
// nothing is looked at.
type processors struct {
	all     unix.CPUSet // that this process may run on
	pending func() bool // reports whether an event waits for a thread

	mu      sync.Mutex
	threads map[*thread]struct{}
	looking bool
}

func findProcessors(pending func() bool) (*processors, error) {
	p := &processors{pending: pending, threads: map[*thread]struct{}{}}
	if err := unix.SchedGetaffinity(0, &p.all); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	return p, nil
}

// What a thread's cpu may be beside a processor.
const (
	anywhere = -1 - iota
	moving   // to anywhere
)

// thread is an OS thread that handles events. Its methods but free are called on it.
type thread struct {
	processors *processors
	tid        int
	turn       atomic.Uint64 // how often it has begun or ended; odd while it is at work
	cpu        atomic.Int64  // that it is kept on
	seen       uint64        // turn at the last look; guarded by processors.mu
}

// join makes a thread of the calling goroutine's, which is locked for good. It must leave before it ends.
func (p *processors) join() *thread {
	runtime.LockOSThread()
	t := &thread{processors: p, tid: unix.Gettid()}
	t.cpu.Store(anywhere)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.threads[t] = struct{}{}
	return t
}

func (t *thread) leave() {
	t.processors.mu.Lock()
	defer t.processors.mu.Unlock()
	delete(t.processors.threads, t)
}

// begin begins the work on an event. It returns the processor of the plugins' threads to work with.
func (t *thread) begin() (cpu int) {
	t.turn.Add(1)
	if cpu := t.cpu.Load(); cpu >= 0 {
		return int(cpu)
	}
	return t.settle()
}

// settle keeps the thread where it runs now.
func (t *thread) settle() (cpu int) {
	t.processors.startLooking() // first: the thread may be held up from the next line on
	cpu = linux.Processor()
	if t.cpu.CompareAndSwap(anywhere, int64(cpu)) {
		linux.KeepOn(0, cpu)
		if t.cpu.Load() != int64(cpu) { // it has been late meanwhile
			unix.SchedSetaffinity(0, &t.processors.all)
		}
	}
	return cpu
}

// end ends the work on an event. The thread is going to wait for the next one in the poller.
func (t *thread) end() { t.turn.Add(1) }

// rest ends the work on an event that did not come from the poller: that the next one waits is not to be seen, so the
// thread is not kept until then.
func (t *thread) rest() {
	t.end()
	if cpu := t.cpu.Load(); cpu >= 0 && t.cpu.CompareAndSwap(cpu, moving) {
		unix.SchedSetaffinity(0, &t.processors.all)
		t.cpu.Store(anywhere)
	}
}

// free lets the thread run anywhere.
func (t *thread) free() {
	if cpu := t.cpu.Load(); cpu >= 0 && t.cpu.CompareAndSwap(cpu, moving) {
		linux.MoveAway(t.tid, int(cpu), &t.processors.all)
		t.cpu.Store(anywhere)
	}
}

// startLooking has somebody look at the threads.
func (p *processors) startLooking() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.looking {
		p.looking = true
		go p.watch()
	}
}

// watch looks at the threads until no calls come.
func (p *processors) watch() {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for quiet, waited := 0, false; quiet < quietLooks || !p.stopLooking(); quiet++ {
		<-ticker.C
		waits := p.pending()
		if p.look(waits && waited) {
			quiet = 0
		}
		waited = waits
	}
}

// look frees the threads that are at work on the same event as at the last look, and, if an event has waited since
// then, those that should have taken it. It reports whether any has come further.
func (p *processors) look(waited bool) (moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.threads {
		turn := t.turn.Load()
		if turn != t.seen {
			t.seen, moved = turn, true
			continue
		}
		if working := turn%2 == 1; working || waited {
			t.free()
		}
	}
	return moved
}

// stopLooking frees all threads, unless one has come further.
func (p *processors) stopLooking() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.threads {
		if t.turn.Load() != t.seen {
			return false
		}
	}
	for t := range p.threads {
		t.free()
	}
	p.looking = false
	return true
}
