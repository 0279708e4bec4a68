package broker

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// admission bounds how much of the broker a container can have. It leaves the container's listeners unarmed: calls over
// the limit wait in the kernel, as any call does, and cost nothing.
type admission struct {
	max  int
	rate *rate.Limiter

	mu     sync.Mutex
	calls  int
	closed bool
	paused []armer    // each by a call that is still in: when the last call leaves, none is left
	idle   *sync.Cond // calls is 0
}

// armer is where notifications come from: a listener, or a connection that hands them on.
type armer interface {
	Arm() error // asks for the next one
}

// newAdmission makes an admission that leaves other containers at least one worker.
func newAdmission(limits Limits, workers int) *admission {
	a := &admission{max: min(limits.MaxInflight, workers-1)}
	a.idle = sync.NewCond(&a.mu)
	if limits.Rate > 0 {
		a.rate = rate.NewLimiter(rate.Limit(limits.Rate), max(limits.Burst, 1))
	}
	return a
}

// enter counts a call in, before it is received. It reports whether the call may enter: after shut none may.
func (a *admission) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.calls++
	return true
}

// next arms the listener of a call that has entered for the call after it: at once; later, if the rate is used up; when
// a call leaves, if there are too many.
func (a *admission) next(l armer) error {
	a.mu.Lock()
	full := a.calls >= a.max
	if full {
		a.paused = append(a.paused, l)
	}
	a.mu.Unlock()
	if full {
		return nil
	}
	return a.arm(l)
}

// shut lets no more calls enter.
func (a *admission) shut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
}

// leave counts a call out and arms one listener that waits for it.
func (a *admission) leave() error {
	a.mu.Lock()
	a.calls--
	var next armer
	if len(a.paused) > 0 {
		next = a.paused[0]
		a.paused = a.paused[1:]
	}
	if a.calls == 0 {
		a.idle.Broadcast()
	}
	a.mu.Unlock()
	if next == nil {
		return nil
	}
	return a.arm(next)
}

// arm arms a listener as soon as the rate allows it.
func (a *admission) arm(l armer) error {
	if a.rate == nil {
		return l.Arm()
	}
	now := time.Now()
	delay := a.rate.ReserveN(now, 1).DelayFrom(now)
	if delay == 0 {
		return l.Arm()
	}
	time.AfterFunc(delay, func() { l.Arm() }) // fails for no listener that is in the poller
	return nil
}

// inflight returns the number of calls being handled.
func (a *admission) inflight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// wait waits until no call is being handled.
func (a *admission) wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.calls > 0 {
		a.idle.Wait()
	}
}

// waitFor is wait with a limit.
func (a *admission) waitFor(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		a.wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
