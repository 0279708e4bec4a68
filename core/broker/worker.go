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

// work waits for notifications and handles them, until the broker is closed or enough others wait.
func (b *Broker) work() {
	d := &desk{cpu: b.processors.pin()}
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
		b.serve(l, hangup, d)
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
	a := l.Data().(*attachment)
	if !a.admission.enter() {
		return // shutDown receives what is left
	}
	b.receive(a, l, d)
	b.rearm(l, a.admission.leave())
}

// receive takes one notification and handles it.
func (b *Broker) receive(a *attachment, l *listener.Listener, d *desk) {
	c := d.begin(a, l)
	switch err := l.Receive(&c.n); {
	case errors.Is(err, notify.ErrGone):
		b.rearm(l, l.Arm())
	case err != nil:
		b.log.Error().Err(err).Str("container", a.container.ID).Msg("listener dropped")
		b.dropListener(l)
	default:
		b.rearm(l, a.admission.next(l))
		c.handle()
	}
}

// rearm drops the listener if it could not be armed: nobody would ever hear of it again.
func (b *Broker) rearm(l *listener.Listener, err error) {
	if err == nil {
		return
	}
	b.log.Error().Err(err).Str("container", l.Data().(*attachment).container.ID).Msg("listener dropped")
	b.dropListener(l)
}
