package broker

import (
	"errors"
	"testing"
)

// TestPing is answered while the broker takes calls, and at once when it does not any more.
func TestPing(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	ended := b.Broker
	b.close()
	if err := ended.Ping(t.Context()); !errors.Is(err, ErrEnds) {
		t.Errorf("after Close: %v", err)
	}
}
