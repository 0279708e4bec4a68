package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/internal/notify"
)

const (
	// watchInterval is how often the watchdog looks at the calls.
	watchInterval = 500 * time.Millisecond
	// watchGrace is how long after a call's deadline its own thread may still answer it.
	watchGrace = 500 * time.Millisecond
	// watchIdle is how often the watchdog finds no call before it sleeps.
	watchIdle = 2
)

// watchdog answers calls at their deadlines whose threads do not come back: the kernel can hold up for ever who reads
// or writes the memory of a caller, where that is a file of a filesystem that the container serves itself.
type watchdog struct {
	broker *Broker
	awake  atomic.Bool
	rouse  chan struct{}
	closed chan struct{}
	over   chan struct{} // closed when it does nothing any more

	mu    sync.Mutex
	posts map[*post]struct{}
}

func startWatchdog(b *Broker) *watchdog {
	w := &watchdog{
		broker: b, rouse: make(chan struct{}, 1), closed: make(chan struct{}), over: make(chan struct{}), posts: map[*post]struct{}{},
	}
	go w.run()
	return w
}

// post is where a thread leaves the call that it works on for the watchdog. Its zero value has none.
type post struct {
	worker bool // a worker's

	mu      sync.Mutex
	call    *call
	unarmed armer         // that asks for the next call
	plugin  *boundPlugin  // that is asked; nil: none yet
	allowed time.Duration // for its answer
	end     time.Time     // when the watchdog answers
	givenUp bool          // the watchdog has answered
	hangs   bool          // and the thread has not come back since: it counts in attachment.hangs
	slow    bool          // the call counts in admission.slow
}

// open begins a call. source is armed by arm, or by the watchdog.
func (p *post) open(c *call, source armer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.call, p.unarmed, p.plugin, p.givenUp = c, source, nil, false
}

// ask notes which plugin is asked from now on, and how long it may take.
func (p *post) ask(plugin *boundPlugin, now time.Time, allowed time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plugin, p.allowed, p.end = plugin, allowed, now.Add(allowed+watchGrace)
}

// takeUnarmed returns what has to be armed now, if it is not yet.
func (p *post) takeUnarmed() armer {
	p.mu.Lock()
	defer p.mu.Unlock()
	source := p.unarmed
	p.unarmed = nil
	return source
}

// noteHang counts the thread of a call that was given up. The post is locked.
func (p *post) noteHang() {
	if !p.hangs {
		p.hangs = true
		p.call.attachment.beginHang()
	}
}

// claim ends what the watchdog may do with the call, and reports whether it is still to be answered.
func (p *post) claim() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.call; c != nil && p.givenUp {
		c.attachment.admission.find()
		if p.hangs {
			c.attachment.endHang()
		}
	}
	p.call, p.hangs = nil, false
	return !p.givenUp
}

// markSlow has the call counted as a slow one, if it is.
func (p *post) markSlow(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.call != nil && !p.slow && now.Sub(p.call.began) >= slowAfter {
		p.slow = true
		p.call.attachment.admission.slowDown()
	}
}

// takeSlow reports whether the call that has ended was counted as a slow one.
func (p *post) takeSlow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	slow := p.slow
	p.slow = false
	return slow
}

// asked returns the plugin that was asked last; nil: none.
func (p *post) asked() *boundPlugin {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plugin
}

func (w *watchdog) add(p *post) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.posts[p] = struct{}{}
}

func (w *watchdog) remove(p *post) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.posts, p)
}

// begin is called when there is a call to watch. It costs next to nothing while the watchdog is awake.
func (w *watchdog) begin() {
	if !w.awake.Load() && w.awake.CompareAndSwap(false, true) {
		w.rouse <- struct{}{}
	}
}

// run watches until close. It sleeps while nothing is in flight.
func (w *watchdog) run() {
	defer close(w.over)
	for {
		select {
		case <-w.rouse:
		case <-w.closed:
			return
		}
		w.stayAwake()
	}
}

// stayAwake watches as long as there are calls. One that begins meanwhile finds the watchdog awake, or asleep before
// the last look, which then finds the call.
func (w *watchdog) stayAwake() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for idle := 0; ; {
		select {
		case now := <-ticker.C:
			if idle++; w.look(now) {
				idle = 0
			}
		case <-w.closed:
			return
		}
		if idle < watchIdle {
			continue
		}
		w.awake.Store(false)
		if !w.look(time.Now()) || !w.awake.CompareAndSwap(false, true) {
			return
		}
		idle = 0
	}
}

func (w *watchdog) close() {
	close(w.closed)
	<-w.over
}

// look answers the calls whose time is up, and reports whether there are any calls.
func (w *watchdog) look(now time.Time) (any bool) {
	for _, p := range w.all() {
		if w.lookAt(p, now) {
			any = true
		}
	}
	return any
}

// markSlow has the calls counted that are slow.
func (w *watchdog) markSlow(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.posts {
		p.markSlow(now)
	}
}

func (w *watchdog) all() []*post {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.posts))
}

// lookAt answers the call at the post if its time is up, and reports whether there is a call.
func (w *watchdog) lookAt(p *post, now time.Time) bool {
	p.mu.Lock()
	c := p.call
	if c == nil {
		p.mu.Unlock()
		return false
	}
	if p.givenUp {
		p.noteHang()
	}
	if p.givenUp || p.plugin == nil || now.Before(p.end) {
		p.mu.Unlock()
		return true
	}
	w.giveUp(p)
	return true
}

// end answers the calls of a container that are left when the broker closes.
func (w *watchdog) end(a *attachment) {
	for _, p := range w.all() {
		p.mu.Lock()
		if p.call == nil || p.givenUp || p.plugin == nil || p.call.attachment != a {
			p.mu.Unlock()
			continue
		}
		w.giveUp(p)
	}
}

// giveUp answers the call at a locked post, which it unlocks: its thread cannot be waited for any longer.
func (w *watchdog) giveUp(p *post) {
	c, source := p.call, p.unarmed
	p.givenUp, p.unarmed = true, nil
	record, witness := p.answer()
	c.attachment.admission.lose()
	if p.worker {
		w.broker.workers.Done() // nobody waits for it
	}
	p.mu.Unlock()
	c.attachment.record(record, witness)
	w.broker.armNext(c.attachment, source)
}

// answer gives the caller the failure verdict of the plugin that is asked. What it reads of the call does not change
// any more once the call's thread has asked.
func (p *post) answer() (audit.Record, witness) {
	c, binding := p.call, p.plugin.binding
	c.lose()
	notification := *c.notification
	err := fmt.Errorf("no answer within %v: %w", p.allowed, errHang)
	outcome := audit.Outcome{Plugin: binding.Plugin.Name(), Err: err, Reason: failureReason(err)}
	w := c.attachment.witnesses(notification.TID, p.plugin, nil, &outcome.Reason)
	if err := c.send(failureResponse(binding.OnFailure), nil, &outcome); errors.Is(err, notify.ErrGone) {
		outcome.Kind = audit.Gone
	}
	p.plugin.count(&outcome)
	return audit.Record{
		Container: &c.terms.about, Caller: w.caller, Syscall: c.name, Notification: &notification, Outcome: outcome,
		Duration: time.Since(c.began),
	}, w
}
