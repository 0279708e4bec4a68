package broker

import (
	"context"
	"errors"
)

// ErrHangs means that no worker has taken an event in time.
var ErrHangs = errors.New("no worker of the broker takes calls")

// ErrEnds means that the broker takes no more calls, since it ends.
var ErrEnds = errors.New("it ends")

// Ping returns when a worker has taken an event from among the listeners'. It returns ErrHangs when ctx is done: the
// broker then answers nobody; and ErrEnds after Close and HandOver.
func (b *Broker) Ping(ctx context.Context) error {
	select {
	case <-b.poller.Ping():
		return nil
	case <-b.poller.Ended():
		return ErrEnds
	case <-ctx.Done():
		return ErrHangs
	}
}
