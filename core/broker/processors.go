package broker

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

const (
	// lookInterval is how often the broker looks at its threads while calls come. Every 10 ms would cost several
	// callers a fifth of their calls: the Go runtime wakes threads for each look, on the processors on which the
	// others take turns.
	lookInterval = 50 * time.Millisecond
	// quietLooks without a call end that.
	quietLooks = 20
	// avoidTime is how long no thread is placed on a processor that did not let one run.
	avoidTime = time.Second
)

// processors keeps each thread that handles calls on one processor while calls come, and so do the plugins' threads
// that it works with: caller, worker and plugin wait for each other, so one processor is enough for them, and waking
// another costs more than all that they do.
//
// A thread that is kept does not run while something else has its processor, as a real-time thread has it for seconds,
// and cannot find that out itself. So the broker looks at its threads now and then, and has those that do not come
// further run elsewhere. When no calls have come for a while none is kept, and nothing is looked at.
type processors struct {
	all     unix.CPUSet // that this process may run on
	numbers []int       // of all
	pending func() bool // reports whether an event waits for a thread

	mu      sync.Mutex
	threads map[*thread]struct{}
	looking bool
	last    int               // of numbers that a thread was placed on
	avoid   map[int]time.Time // processors, until then
}

func findProcessors(pending func() bool) (*processors, error) {
	p := &processors{pending: pending, threads: map[*thread]struct{}{}, avoid: map[int]time.Time{}}
	if err := unix.SchedGetaffinity(0, &p.all); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for cpu := 0; len(p.numbers) < p.all.Count(); cpu++ {
		if p.all.IsSet(cpu) {
			p.numbers = append(p.numbers, cpu)
		}
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

	// Guarded by processors.mu.
	home int    // that it is to be kept on; anywhere: not known yet
	seen uint64 // turn at the last look
}

// join makes a thread of the calling goroutine's, which is locked for good. It must leave before it ends.
func (p *processors) join() *thread {
	runtime.LockOSThread()
	t := &thread{processors: p, tid: unix.Gettid(), home: anywhere}
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

// begin begins the work on an event of the poller. It returns the processor of the plugins' threads to work with.
func (t *thread) begin() (cpu int) {
	t.turn.Add(1)
	t.settle()
	return t.processor()
}

// settle keeps the thread on a processor, unless it is kept on one.
func (t *thread) settle() {
	if t.cpu.Load() == anywhere {
		t.keepOn(t.processors.place(t))
	}
}

// processor returns the one that the thread is kept on, or else the one that it runs on.
func (t *thread) processor() int {
	if cpu := t.cpu.Load(); cpu >= 0 {
		return int(cpu)
	}
	return linux.Processor()
}

// end ends it. The thread is going to wait for the next event in the poller.
func (t *thread) end() { t.turn.Add(1) }

// beginHere is begin for an event that did not come from the poller. The thread stays where it is.
func (t *thread) beginHere() (cpu int) {
	t.turn.Add(1)
	t.processors.startLooking()
	t.keepOn(linux.Processor())
	return t.processor()
}

// endHere ends that. Nobody sees whether the next event waits, so the thread is not kept until then.
func (t *thread) endHere() {
	t.turn.Add(1)
	if cpu := t.cpu.Load(); cpu >= 0 && t.cpu.CompareAndSwap(cpu, moving) {
		unix.SchedSetaffinity(0, &t.processors.all)
		t.cpu.Store(anywhere)
	}
}

// keepOn keeps the thread on a processor from now on. Somebody looks already: it may not get to the next line.
func (t *thread) keepOn(cpu int) {
	if !t.cpu.CompareAndSwap(anywhere, int64(cpu)) {
		return // it is being freed
	}
	linux.KeepOn(0, cpu)
	if t.cpu.Load() != int64(cpu) { // it was freed meanwhile
		unix.SchedSetaffinity(0, &t.processors.all)
	}
}

// free lets the thread run anywhere.
func (t *thread) free() {
	if cpu := t.cpu.Load(); cpu >= 0 && t.cpu.CompareAndSwap(cpu, moving) {
		linux.MoveAway(t.tid, int(cpu), &t.processors.all)
		t.cpu.Store(anywhere)
	}
}

// place returns the processor that the thread is to be kept on, and has somebody look.
func (p *processors) place(t *thread) (cpu int) {
	p.startLooking()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for range p.numbers {
		if t.home != anywhere && now.After(p.avoid[t.home]) {
			break
		}
		p.last = (p.last + 1) % len(p.numbers)
		t.home = p.numbers[p.last]
	}
	return t.home
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

// look frees the threads that are late: at work on the same event as at the last look, or, if an event has waited since
// then, without one. It reports whether any has come further. Where a processor has let one come further it is only
// busy, and its threads stay.
func (p *processors) look(waited bool) (moved bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var late []*thread
	busy := map[int64]bool{}
	for t := range p.threads {
		switch turn := t.turn.Load(); {
		case turn != t.seen:
			t.seen, moved = turn, true
			busy[t.cpu.Load()] = true
		case turn%2 == 1 || waited:
			late = append(late, t)
		}
	}
	for _, t := range late {
		cpu := t.cpu.Load()
		if cpu < 0 || busy[cpu] {
			continue
		}
		if linux.IsRunnable(os.Getpid(), t.tid) {
			p.avoid[int(cpu)] = time.Now().Add(avoidTime)
		}
		t.free()
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
