package lane

import (
	"sync/atomic"
	"testing"
)

// TestWatch checks that the end of a caller is told once, and nothing after stop.
func TestWatch(t *testing.T) {
	t.Parallel()
	var alive atomic.Bool
	alive.Store(true)
	checked, gone := make(chan struct{}, 1), make(chan struct{}, 10)
	w := startWatch(func() bool {
		select {
		case checked <- struct{}{}:
		default:
		}
		return alive.Load()
	}, func() { gone <- struct{}{} })
	<-checked
	<-checked // it goes on
	alive.Store(false)
	<-gone
	w.stop()
	w.check() // of a timer that had fired already
	if len(gone) != 0 {
		t.Error("it is told after stop")
	}

	var over atomic.Bool // until then it may ask
	stopped := startWatch(func() bool {
		if over.Load() {
			t.Error("asked after stop")
		}
		return true
	}, func() { t.Error("told of a caller that is not gone") })
	stopped.stop()
	over.Store(true)
	stopped.check()
}
