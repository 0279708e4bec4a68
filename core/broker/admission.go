package broker

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/metrics"
	"golang.org/x/time/rate"
)

// admission bounds how much of the broker a container can have. It leaves the container's listeners unarmed: calls over
// the limit wait in the kernel, as any call does, and cost nothing.
type admission struct {
	pacer     *pacer         // bounds the calls that are not slow
	throttled *metrics.Calls // counts delays by the rate; nil: nothing does

	delayed atomic.Int32 // listeners that the rate makes wait

	mu      sync.Mutex
	max     int
	rate    *rate.Limiter
	crew    *crew // which keeps a worker for the container; nil: none does, its calls have threads of their own
	calls   int
	lost    int  // of them, whose threads do not come back: they have been answered
	slow    int  // of them
	paced   bool // the pacer will look at them
	kept    int  // calls that are over here, and may not be in a plugin
	closed  bool
	held    bool       // no call enters until release
	onHold  []armer    // of calls that wait for that
	over    bool       // the container has ended
	paused  []armer    // until calls leave, or turn out to be slow
	refused []armer    // for which there was no worker
	waits   bool       // in crew.waiting
	idle    *sync.Cond // no call is left but lost ones
}

// armer is where notifications come from: a listener, or a connection that hands them on.
type armer interface {
	Arm() error // asks for the next one
}

// newAdmission makes an admission that leaves other containers at least one worker.
func newAdmission(limits Limits, workers int, p *pacer) *admission {
	a := &admission{pacer: p}
	a.idle = sync.NewCond(&a.mu)
	a.limit(limits, workers)
	return a
}

// limit replaces the limits. A rate that is the same goes on counting.
func (a *admission) limit(limits Limits, workers int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.max = min(limits.MaxInflight, workers-1)
	r, burst := rate.Limit(limits.Rate), max(limits.Burst, 1)
	switch {
	case r <= 0:
		a.rate = nil
	case a.rate == nil || a.rate.Limit() != r || a.rate.Burst() != burst:
		a.rate = rate.NewLimiter(r, burst)
	}
}

// limits returns how many calls may be handled at once, and the bound of the rate.
func (a *admission) limits() (int, *rate.Limiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.max, a.rate
}

// join has the crew keep a worker for the container, until quit. A second call does nothing.
func (a *admission) join(c *crew) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.crew == nil {
		a.crew = c
		c.keep()
	}
}

// quit gives the container's worker back. Calls that are left are lost ones.
func (a *admission) quit() {
	a.mu.Lock()
	a.over = true
	if a.crew != nil {
		a.crew.unkeep(a.calls > 0)
	}
	a.mu.Unlock()
	if a.crew != nil {
		a.crew.wake()
	}
}

// enter counts a call in, before it is received. It reports whether the call may enter: after shut none may. If there
// is no worker for it, its listener is armed later.
func (a *admission) enter(l armer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held && !a.closed {
		a.onHold = append(a.onHold, l)
		return false
	}
	return a.count(l)
}

// enterWhenOpen is enter for a call that was received already: it waits until the admission is not held.
func (a *admission) enterWhenOpen(l armer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.held && !a.closed {
		a.idle.Wait()
	}
	return a.count(l)
}

// count counts a call in, if it may enter. The admission is locked.
func (a *admission) count(l armer) bool {
	if a.closed {
		return false
	}
	if a.calls > 0 && a.crew != nil && !a.crew.take(a) {
		a.refused = append(a.refused, l)
		return false
	}
	a.calls++
	a.pacer.company.note(a)
	return true
}

// resume counts a call in that another broker has received.
func (a *admission) resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls > 0 && a.crew != nil {
		a.crew.borrow()
	}
	a.calls++
}

// next arms the listener of a call that has entered for the call after it: at once; later, if the rate is used up; when
// a call leaves or turns out to be slow, if there are too many.
func (a *admission) next(l armer) error {
	a.mu.Lock()
	full := a.full()
	if full {
		a.paused = append(a.paused, l)
		a.pace()
	}
	a.mu.Unlock()
	if full {
		return nil
	}
	return a.arm(l)
}

// full reports whether no more calls may enter. The admission is locked.
func (a *admission) full() bool { return a.calls+a.kept >= a.max || a.calls-a.slow >= a.pacer.quick() }

// pace has the pacer look at the calls, if another may enter should they be slow. The admission is locked.
func (a *admission) pace() {
	if !a.paced && len(a.paused) > 0 && a.calls+a.kept < a.max {
		a.paced = true
		a.pacer.add(a)
	}
}

// slowDown counts a call as a slow one until it leaves.
func (a *admission) slowDown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow++
}

// goOn is called when the pacer has looked.
func (a *admission) goOn() {
	a.mu.Lock()
	a.paced = false
	next := a.unpause(nil)
	a.mu.Unlock()
	a.armSome(next)
}

// unpause appends the listeners that may be armed: with no call left, all, since nothing else would arm them. It has
// the pacer look if any is left. The admission is locked.
func (a *admission) unpause(next []armer) []armer {
	n := len(a.paused)
	if a.calls > 0 {
		n = max(min(n, a.max-a.calls-a.kept, a.pacer.quick()-a.calls+a.slow), 0)
	}
	if n > 0 {
		next = append(next, a.paused[:n]...)
		a.paused = slices.Delete(a.paused, 0, n)
	}
	a.pace()
	return next
}

// Kept implements launcher.Counter: the call counts on. Where that leaves the container no more calls, it has one at a
// time.
func (a *admission) Kept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept++
}

// Returned implements launcher.Counter.
func (a *admission) Returned() {
	a.mu.Lock()
	a.kept--
	next := a.unpause(nil)
	a.mu.Unlock()
	a.armSome(next)
}

// shut lets no more calls enter.
func (a *admission) shut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.idle.Broadcast()
}

// hold lets no call enter until release, and reports whether those that had entered have ended within the limit, but
// for lost ones. Calls wait in the kernel meanwhile.
func (a *admission) hold(limit time.Duration) (idle bool) {
	a.mu.Lock()
	a.held = true
	a.mu.Unlock()
	a.waitFor(limit)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls == a.lost
}

// release ends what hold began.
func (a *admission) release() {
	a.mu.Lock()
	a.held = false
	waiting := a.onHold
	a.onHold = nil
	a.idle.Broadcast()
	a.mu.Unlock()
	armAll(waiting)
}

// atPlugins returns how many calls that are over here may still be in a plugin: a lost one too, until its thread comes
// back and says where it was.
func (a *admission) atPlugins() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept + a.lost
}

// leave counts a call out, arms the listeners that wait for that, and gives its worker back.
func (a *admission) leave(slow bool) {
	var space [8]armer // so that nothing is allocated
	next, freed, refused := a.countOut(slow, space[:0])
	if freed != nil {
		freed.wake()
	}
	armAll(refused)
	a.armSome(next)
}

// countOut counts a call out. It returns the listeners that wait for that, which it appends, the crew if that has a
// worker more, and the listeners for which there was none: with no call left, the container has its own.
func (a *admission) countOut(slow bool, waiting []armer) (next []armer, freed *crew, refused []armer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls--
	if slow {
		a.slow--
	}
	next = a.unpause(waiting)
	if a.calls == 0 {
		refused, a.refused = a.refused, nil
	}
	a.signalIdle()
	if a.crew != nil && (a.calls > 0 || a.over) {
		a.crew.release()
		freed = a.crew
	}
	return next, freed, refused
}

// retry arms the listeners for which there was no worker, and reports whether there were any.
func (a *admission) retry() bool {
	a.mu.Lock()
	refused := a.refused
	a.refused, a.waits = nil, false
	a.mu.Unlock()
	armAll(refused)
	return len(refused) > 0
}

// armAll arms listeners whose calls have been counted: the rate does not apply.
func armAll(listeners []armer) {
	for _, l := range listeners {
		l.Arm() // fails for no listener that is in the poller
	}
}

// armSome arms listeners of calls that are still to be counted.
func (a *admission) armSome(listeners []armer) {
	for _, l := range listeners {
		a.arm(l) // fails for no listener that is in the poller
	}
}

// arm arms a listener as soon as the rate allows it.
func (a *admission) arm(l armer) error {
	_, rate := a.limits()
	if rate == nil {
		return l.Arm()
	}
	now := time.Now()
	delay := rate.ReserveN(now, 1).DelayFrom(now)
	if delay == 0 {
		return l.Arm()
	}
	a.throttled.Throttle()
	a.delayed.Add(1)
	time.AfterFunc(delay, func() {
		a.delayed.Add(-1)
		l.Arm() // fails for no listener that is in the poller
	})
	return nil
}

// inflight returns the number of calls being handled.
func (a *admission) inflight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// countPaused returns the number of listeners that wait for a call to leave, or for a worker.
func (a *admission) countPaused() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.paused) + len(a.refused)
}

// lose counts a call whose thread does not come back. It stays in until it does.
func (a *admission) lose() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost++
	a.signalIdle()
}

// find counts a thread that has come back.
func (a *admission) find() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost--
}

// signalIdle wakes those that wait, when they may. The admission is locked.
func (a *admission) signalIdle() {
	if a.calls == a.lost {
		a.idle.Broadcast()
	}
}

// wait waits until no call is being handled, but those that are lost.
func (a *admission) wait() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.calls > a.lost {
		a.idle.Wait()
	}
}

// waitFor is wait with a limit.
func (a *admission) waitFor(limit time.Duration) { waitFor(limit, a.wait) }

// waitFor waits until wait returns, or for the limit.
func waitFor(limit time.Duration, wait func()) {
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
