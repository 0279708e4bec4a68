package broker

import (
	"errors"

	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/notify"
)

func (b *Broker) startWorker() {
	b.crew.join()
	b.workers.Add(1)
	go func() {
		if lost := b.work(); !lost {
			b.workers.Done()
		}
	}()
}

// work waits for notifications and handles them, until the broker is closed or enough other workers wait; or until the
// worker was lost, which the watchdog has counted out.
func (b *Broker) work() (lost bool) {
	d := b.newDesk(b.processors.join(), true)
	defer d.thread.leave()
	defer b.state.Journal.Give(d.slot)
	d.thread.settle() // another worker has a call, or this is the first one
	b.watchdog.add(&d.post)
	defer b.watchdog.remove(&d.post)
	for {
		l, hangup, err := b.poller.Wait()
		if more := b.crew.busy(); more && err == nil {
			b.startWorker()
		}
		if err != nil {
			if !errors.Is(err, listener.ErrClosed) {
				b.log.Error().Err(err).Msg("waiting for notifications")
			}
			return false
		}
		d.cpu = d.thread.begin()
		b.serve(l, hangup, d)
		d.thread.end()
		if d.call.lost {
			b.endLost()
			return true
		}
		if !b.crew.done() {
			return false
		}
	}
}

// endLost counts out a worker that was lost and has come back, and starts another if none waits: the other busy ones
// may be lost too.
func (b *Broker) endLost() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.crew.lose() && !b.closed {
		b.startWorker()
	}
}

// serve deals with one event of a listener.
func (b *Broker) serve(l *listener.Listener, hangup bool, d *desk) {
	defer l.Release()
	if hangup {
		b.dropListener(l)
		return
	}
	admission := attachmentOf(l).admission
	if !admission.enter(l) {
		return // it is armed later, or shutDown receives what is left
	}
	b.handleNext(l, d)
	admission.leave(d.post.takeSlow())
}

// handleNext receives one notification and handles it.
func (b *Broker) handleNext(l *listener.Listener, d *desk) {
	switch c, err := d.receive(l); {
	case errors.Is(err, notify.ErrGone):
		b.rearm(l, l.Arm())
	case err != nil:
		b.failListener(l, err)
	default:
		c.handle(l)
	}
}

// armNext asks for the next call of a container.
func (b *Broker) armNext(a *attachment, source armer) {
	if source == nil {
		return
	}
	err := a.admission.next(source)
	if l, ok := source.(*listener.Listener); ok {
		b.rearm(l, err)
	}
}

// rearm drops the listener if it could not be armed: no event of it would ever come again.
func (b *Broker) rearm(l *listener.Listener, err error) {
	if err != nil {
		b.failListener(l, err)
	}
}

// failListener drops a listener because of an error.
func (b *Broker) failListener(l *listener.Listener, err error) {
	b.log.Error().Err(err).Str("container", attachmentOf(l).container.ID).Msg("listener dropped")
	b.dropListener(l)
}
