package lane

import (
	"context"
	"sync"
	"time"
)

// goneInterval is how often a call that is not answered yet is checked for a caller that is gone. A plugin that takes
// longer is late.
const goneInterval = 100 * time.Millisecond

// WhileWaiting is a context that ends, with the cause ErrGone, when the caller no longer waits for an answer. Release
// it.
func WhileWaiting(ctx context.Context, caller Caller) (waiting context.Context, release func()) {
	waiting, cancel := context.WithCancelCause(ctx)
	w := startWatch(caller.Valid, func() { cancel(ErrGone) })
	return waiting, func() {
		w.stop()
		cancel(nil)
	}
}

// watch notices that a caller is gone while a plugin has its call.
type watch struct {
	valid func() bool
	gone  func()

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// startWatch calls gone once when valid says no. Neither is called after stop.
func startWatch(valid func() bool, gone func()) *watch {
	w := &watch{valid: valid, gone: gone}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(goneInterval, w.check)
	return w
}

func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if !w.valid() {
		w.gone()
		return
	}
	w.timer.Reset(goneInterval)
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}
