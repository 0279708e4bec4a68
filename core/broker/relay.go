package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/internal/notify"
	"github.com/rs/zerolog"
)

// Relay is a connection over which another program hands on the notifications of one container, one at a time: LXC's
// monitor. Further connections of the container share its sessions and limits; it stays attached without any until its
// first process ends.
type Relay struct {
	attachment *attachment
	inbox      *Inbox
	desk       *desk
	armed      chan struct{} // not empty: the next notification may come
	close      func()
}

// Inbox is where the notifications of a connection are received, so that the next broker finds one that this one has
// not answered.
type Inbox struct {
	Number  uint64 // no other source of notifications has it, of this broker's or those before it
	broker  *Broker
	slot    *journal.Slot
	resumed bool // the slot has a call that another broker has received
}

// NewInbox makes the inbox of a new connection.
func (b *Broker) NewInbox() *Inbox {
	return &Inbox{Number: b.numbers.next(), broker: b, slot: b.state.Journal.Take()}
}

// Reserve has no new source of notifications get this number, or a lower one: another broker's has it. It is called for
// all of them before the first NewInbox.
func (b *Broker) Reserve(number uint64) { b.numbers.above(number) }

// AdoptInbox makes the inbox of a connection of another broker's, with the call of it that is in the slot; nil: there
// is none.
func (b *Broker) AdoptInbox(number uint64, slot *journal.Slot) *Inbox {
	if slot == nil {
		return &Inbox{Number: number, broker: b, slot: b.state.Journal.Take()}
	}
	return &Inbox{Number: number, broker: b, slot: slot, resumed: true}
}

// Expect gives the memory into which the next packet is received, from now on.
func (i *Inbox) Expect() *[136]byte {
	i.resumed = false
	i.slot.Expect(i.Number)
	return i.slot.Bytes()
}

// Close gives the memory back.
func (i *Inbox) Close() { i.broker.state.Journal.Give(i.slot) }

// RelayedNotification is a notification that a program hands on, and the way to its caller. All of it is that
// program's word.
type RelayedNotification struct {
	Notification *notify.Notification
	Answers      Answers
	End          time.Time // when the program stops waiting: plugins must answer before
}

// Relay finds or makes the attachment of the container that claim describes. The calling goroutine belongs to the
// connection: it keeps a thread of its own for good, and calls Handle and Close. What the connection receives is in the
// inbox.
func (b *Broker) Relay(ctx context.Context, claim container.Claim, inbox *Inbox) (*Relay, error) {
	a, err := b.join(claim)
	if err != nil {
		return nil, fmt.Errorf("attach a connection: %w", err)
	}
	first, err := b.watch(a)
	if err != nil {
		b.leave(a)
		return nil, fmt.Errorf("attach a connection: %w", err)
	}
	a.prepare(ctx)
	// A container makes its monitor connect again by the calls that it kills.
	level := zerolog.DebugLevel
	if first {
		level = zerolog.InfoLevel
	}
	b.log.WithLevel(level).Str("container", a.container.ID).Str("runtime", claim.Runtime).Int("pid", claim.PID).Msg("connection attached")
	r := &Relay{attachment: a, inbox: inbox, desk: &desk{thread: b.processors.join(), slot: inbox.slot}, armed: make(chan struct{}, 1)}
	b.watchdog.add(&r.desk.post)
	r.close = sync.OnceFunc(func() {
		r.desk.thread.leave()
		b.watchdog.remove(&r.desk.post)
		b.leave(a)
	})
	return r, nil
}

// watch keeps the attachment until the container's first process ends. It reports whether nothing has kept it before.
// The container can hold up who looks at its processes (see capture.Since): nothing is locked meanwhile.
func (b *Broker) watch(a *attachment) (first bool, err error) {
	if !b.setWatched(a) {
		return false, nil
	}
	end, err := a.container.WatchEnd()
	if err != nil {
		b.unwatch(a)
		return false, err
	}
	go func() {
		end.Wait(a.ctx)
		a.cancel(errContainerGone) // closes the connections that are left
		b.unwatch(a)
	}()
	return true, nil
}

// setWatched reports whether the attachment was not watched before.
func (b *Broker) setWatched(a *attachment) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := a.watched
	a.watched = true
	return !before
}

func (b *Broker) unwatch(a *attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.watched = false
	b.endUnused(a)
}

// Context ends with the container, or the broker. The connection must then be closed.
func (r *Relay) Context() context.Context { return r.attachment.ctx }

// Close ends the use of the connection.
func (r *Relay) Close() { r.close() }

// Handle decides on the notification and answers it at most once. It leaves one unanswered only if nobody seems to wait
// for it any more. It returns when the next one may be received. After an error the connection must be closed.
//
// The call of a thread outside the container's user namespace, which lxc-attach can start, is left to the kernel.
func (r *Relay) Handle(n RelayedNotification) error {
	a := r.attachment
	if a.broker.handingOver.Load() {
		select {} // the next broker finds the notification in the journal
	}
	if !a.admission.enterWhenOpen(r) {
		return errBrokerClosed
	}
	r.desk.cpu = r.desk.thread.beginHere()
	c := r.desk.accept(a, n)
	if r.inbox.resumed {
		c.setResumed()
	}
	c.handle(r)
	r.desk.thread.endHere()
	a.admission.leave(r.desk.post.takeSlow())
	select {
	case <-r.armed:
		return nil
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
}

// Arm implements armer.
func (r *Relay) Arm() error {
	select {
	case r.armed <- struct{}{}:
	default:
	}
	return nil
}
