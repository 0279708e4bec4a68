package broker

import (
	"context"
	"errors"
)

// ErrHangs means that no worker has taken an event in time.
var ErrHangs = errors.New("no worker of the broker takes calls")

// Ping returns when a worker has taken an event from among the listeners', or with ErrHangs when ctx is done: the
// broker then answers nobody.
func (b *Broker) Ping(ctx context.Context) error {
	select {
	case <-b.poller.Ping():
		return nil
	case <-ctx.Done():
		return ErrHangs
	}
}
