package broker

import (
	"errors"

	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/notify"
)

func (b *Broker) startWorker() {
	b.crew.join()
	b.workers.Go(b.work)
}

// work waits for notifications and handles them, until the broker is closed or enough other workers wait.
func (b *Broker) work() {
	d := &desk{thread: b.processors.join()}
	defer d.thread.leave()
	for {
		l, hangup, err := b.poller.Wait()
		if more := b.crew.busy(); more && err == nil {
			b.startWorker()
		}
		if err != nil {
			if !errors.Is(err, listener.ErrClosed) {
				b.log.Error().Err(err).Msg("waiting for notifications")
			}
			return
		}
		d.cpu = d.thread.begin()
		b.serve(l, hangup, d)
		d.thread.end()
		if !b.crew.done() {
			return
		}
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
	if !admission.enter() {
		return // shutDown receives what is left
	}
	b.handleNext(l, d)
	b.rearm(l, admission.leave())
}

// handleNext receives one notification and handles it.
func (b *Broker) handleNext(l *listener.Listener, d *desk) {
	switch c, err := d.receive(l); {
	case errors.Is(err, notify.ErrGone):
		b.rearm(l, l.Arm())
	case err != nil:
		b.failListener(l, err)
	default:
		b.rearm(l, c.attachment.admission.next(l))
		c.handle()
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
