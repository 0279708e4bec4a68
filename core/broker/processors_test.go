package broker

import (
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// unwatched are processors that only the test looks at.
func unwatched(t *testing.T) *processors {
	t.Helper()
	p, err := findProcessors(func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	p.looking = true
	return p
}

// onThread runs the steps on a thread, and the test's own between them.
func (p *processors) onThread(t *testing.T, steps ...func(*thread)) {
	t.Helper()
	linux.OnThread(func() {
		th := p.join()
		defer th.leave()
		for _, step := range steps {
			step(th)
		}
	})
	if len(p.threads) != 0 {
		t.Error("the thread is still there")
	}
}

// checkKept checks whether the calling thread may run on the processor cpu alone, or anywhere if that is negative.
func (p *processors) checkKept(t *testing.T, cpu int) {
	t.Helper()
	want := p.all
	if cpu >= 0 {
		want.Zero()
		want.Set(cpu)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || set != want {
		t.Errorf("it may run on %v, %v; want %v", set, err, want)
	}
}

func TestThreadIsKeptWhileItMovesOn(t *testing.T) {
	p := unwatched(t)
	p.onThread(t, func(th *thread) {
		p.checkKept(t, -1)
		cpu := th.begin()
		p.checkKept(t, cpu)
		for range 3 {
			if !p.look(false) {
				t.Error("it has not moved on")
			}
			th.end()
			if again := th.begin(); again != cpu {
				t.Errorf("it is on processor %d, before on %d", again, cpu)
			}
			p.checkKept(t, cpu)
		}
	})
}

func TestThreadIsFreed(t *testing.T) {
	for name, test := range map[string]struct {
		idle, waited bool
		kept         bool
	}{
		"at work for long":       {},
		"takes no event":         {idle: true, waited: true},
		"has nothing to do":      {idle: true, kept: true},
		"at work, events waited": {waited: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := unwatched(t)
			p.onThread(t, func(th *thread) {
				cpu := th.begin()
				if test.idle {
					th.end()
				}
				p.look(test.waited)
				p.checkKept(t, cpu) // it has moved on since the last look
				p.look(test.waited)
				if test.kept {
					p.checkKept(t, cpu)
				} else {
					p.checkKept(t, -1)
				}
				if !test.idle {
					th.end()
				}
				p.checkKept(t, th.begin())
			})
		})
	}
}

// A thread that did not get its processor is kept on another one, and comes back to none that did not let one run
// just now.
func TestThreadAvoidsProcessor(t *testing.T) {
	p := unwatched(t)
	p.onThread(t, func(th *thread) {
		cpu := th.begin()
		p.look(false)
		p.look(false)                              // the thread is here, and so it is runnable
		p.avoid[cpu] = p.avoid[cpu].Add(time.Hour) // which is over too soon for no machine
		th.end()
		again := th.begin()
		p.checkKept(t, again)
		if again == cpu && len(p.numbers) > 1 {
			t.Errorf("it is on processor %d once more", cpu)
		}
		for range p.numbers {
			p.avoid[again] = time.Now().Add(time.Hour)
			th.free()
			th.end()
			again = th.begin()
		}
		p.checkKept(t, again) // all are avoided, so any of them will do
	})
}

// Threads are spread over the processors.
func TestThreadsAreSpread(t *testing.T) {
	p := unwatched(t)
	used := map[int]bool{}
	for range p.numbers {
		p.onThread(t, func(th *thread) { used[th.begin()] = true })
	}
	if len(used) != len(p.numbers) {
		t.Errorf("processors %v of %v", used, p.numbers)
	}
}

// A thread is late on a processor that another one has, and not if that is a thread that comes further.
func TestThreadStaysOnBusyProcessor(t *testing.T) {
	p := unwatched(t)
	other := &thread{processors: p, tid: unix.Gettid()}
	p.threads[other] = struct{}{}
	p.onThread(t, func(th *thread) {
		cpu := th.begin()
		other.cpu.Store(int64(cpu))
		p.look(false)
		other.end()
		p.look(false)
		p.checkKept(t, cpu)
		other.cpu.Store(anywhere)
		other.end()
		p.look(false)
		p.checkKept(t, -1)
		other.leave()
	})
}

// A thread is not kept while it waits where nobody sees what it waits for.
func TestThreadRests(t *testing.T) {
	p := unwatched(t)
	p.onThread(t, func(th *thread) {
		for range 2 {
			p.checkKept(t, th.beginHere())
			th.endHere()
			p.checkKept(t, -1)
		}
	})
}

func TestThreadsAreFreedWhenNoCallsCome(t *testing.T) {
	p := unwatched(t)
	p.onThread(t, func(th *thread) {
		cpu := th.begin()
		th.end()
		if p.stopLooking() {
			t.Error("it stops although a call has come")
		}
		p.checkKept(t, cpu)
		p.look(false)
		if !p.stopLooking() {
			t.Error("it looks on although no call has come")
		}
		p.checkKept(t, -1)
	})
}

// isWatched reports whether somebody looks at the threads.
func (p *processors) isWatched() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looking
}

// The watch begins with a call, frees who is late, and ends by itself.
func TestWatch(t *testing.T) {
	p := unwatched(t)
	p.looking = false
	p.onThread(t, func(th *thread) {
		th.begin()
		if !p.isWatched() {
			t.Error("nobody looks")
		}
		for end := time.Now().Add(testcaller.Timeout); p.isWatched() && time.Now().Before(end); {
			time.Sleep(lookInterval)
		}
		if p.isWatched() {
			t.Error("it does not end")
		}
		p.checkKept(t, -1)
		if th.end(); p.isWatched() {
			t.Error("the end of a call is looked for")
		}
	})
}
