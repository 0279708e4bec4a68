package broker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/sdk/target"
)

// Relay is a connection over which another program hands on the notifications of one container, one at a time: LXC's
// monitor. Further connections of the container share its sessions and limits; it stays attached without any until its
// first process ends.
type Relay struct {
	attachment *attachment
	desk       *desk
	armed      chan struct{} // has one: the next notification may come
	close      func()
}

// RelayedNotification is a notification that a program hands on, and the way to its caller. All of it is that
// program's word.
type RelayedNotification struct {
	Notification *notify.Notification
	Answers      Answers
	Caller       *target.Target // the thread that makes the call
	End          time.Time      // when the program stops waiting: plugins must answer before
}

// Relay finds or makes the attachment of the container that claim describes. The calling goroutine is the connection's: it
// is kept to a thread of its own for good, and calls Handle and Close.
func (b *Broker) Relay(ctx context.Context, claim container.Claim) (*Relay, error) {
	a, err := b.join(claim)
	if err != nil {
		return nil, fmt.Errorf("attach a connection: %w", err)
	}
	if err := b.watch(a); err != nil {
		b.leave(a)
		return nil, fmt.Errorf("attach a connection: %w", err)
	}
	a.prepare(ctx)
	b.log.Info().Str("container", a.container.ID).Str("runtime", claim.Runtime).Int("pid", claim.PID).Msg("connection attached")
	return &Relay{
		attachment: a, desk: &desk{cpu: b.processors.pin()}, armed: make(chan struct{}, 1), close: sync.OnceFunc(func() { b.leave(a) }),
	}, nil
}

// watch keeps the attachment until the container's first process ends, and then no longer.
func (b *Broker) watch(a *attachment) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.watched {
		return nil
	}
	end, err := a.container.WatchEnd()
	if err != nil {
		return err
	}
	a.watched = true
	go func() {
		end.Wait(a.ctx)
		a.cancel(errContainerGone) // closes what connections are left
		b.mu.Lock()
		defer b.mu.Unlock()
		a.watched = false
		b.endUnused(a)
	}()
	return nil
}

// Context ends with the container, or the broker. The connection is then to be closed.
func (r *Relay) Context() context.Context { return r.attachment.ctx }

// Close ends the use of the connection.
func (r *Relay) Close() { r.close() }

// Handle decides on the notification and answers it at most once; it returns when the next one may be received. What is
// not answered then has no caller any more, as far as can be known. After an error the connection is to be closed.
//
// A thread outside the container's user namespace, as lxc-attach can start one, is left to the kernel.
func (r *Relay) Handle(n RelayedNotification) error {
	a := r.attachment
	if !a.admission.enter() {
		return errBrokerClosed
	}
	a.admission.next(r) // Arm does not fail
	r.desk.accept(a, n).handle()
	a.admission.leave() // likewise
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

// locate says whether the thread is outside the container, or gone.
func (a *attachment) locate(caller *target.Target) (foreign, gone bool) {
	in, err := caller.InUserNamespace(a.container.UserNamespace)
	return !in, err != nil
}
