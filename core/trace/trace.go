// Package trace shows operators calls as they happen. It holds up no call: what an operator does not take in time is
// dropped, and counted.
package trace

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
)

const (
	// maxWatchers bounds who watches at once, since each call is compared with the filter of each.
	maxWatchers = 16
	// waiting is how many calls wait for a watcher.
	waiting = 512
)

// Filter says which calls are wanted: those that have all that is given.
type Filter struct {
	Container string // its ID, or how that begins, or its name
	Syscall   string
	Plugin    string // that decided, or gave the reason
	Outcome   audit.Kind
}

// HasContainer reports whether the container's calls are wanted.
func (f *Filter) HasContainer(id, name string) bool {
	return f.Container == "" || strings.HasPrefix(id, f.Container) || name == f.Container
}

func (f *Filter) wants(r *audit.Record) bool {
	o := &r.Outcome
	return f.HasContainer(r.Container.ID, r.Container.Name) && (f.Syscall == "" || f.Syscall == r.Syscall) &&
		(f.Plugin == "" || f.Plugin == o.Plugin || f.Plugin == o.Reason.Plugin) && (f.Outcome == "" || f.Outcome == o.Kind)
}

// Call is one call.
type Call struct {
	*audit.Record
	At time.Time // of its answer
}

// Hub has those who watch. Its zero value has none.
type Hub struct {
	count    atomic.Int32
	dropped  atomic.Uint64
	mu       sync.RWMutex
	watchers map[*Watcher]struct{}
}

// Watcher is somebody who watches.
type Watcher struct {
	Calls   <-chan Call
	hub     *Hub
	filter  Filter
	calls   chan Call
	dropped atomic.Uint64
}

// Watch begins to watch, until Close.
func (h *Hub) Watch(f Filter) (*Watcher, error) {
	calls := make(chan Call, waiting)
	w := &Watcher{Calls: calls, hub: h, filter: f, calls: calls}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watchers) >= maxWatchers {
		return nil, fmt.Errorf("%d operators watch already, which is the limit: end one of them", maxWatchers)
	}
	if h.watchers == nil {
		h.watchers = map[*Watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	h.count.Add(1)
	return w, nil
}

// Close ends the watching. A second call does nothing.
func (w *Watcher) Close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if _, there := w.hub.watchers[w]; there {
		delete(w.hub.watchers, w)
		w.hub.count.Add(-1)
	}
}

// TakeDropped returns how many calls were dropped since it was asked last.
func (w *Watcher) TakeDropped() uint64 { return w.dropped.Swap(0) }

// drop counts a call that the watcher did not take in time.
func (w *Watcher) drop() {
	w.dropped.Add(1)
	w.hub.dropped.Add(1)
}

// Dropped returns how many calls all watchers together did not take in time.
func (h *Hub) Dropped() uint64 { return h.dropped.Load() }

// Watched reports whether anybody watches.
func (h *Hub) Watched() bool { return h.count.Load() > 0 }

// Show shows a call, which it does not keep, to those who want it.
func (h *Hub) Show(r *audit.Record) {
	if !h.Watched() {
		return
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	var call Call
	for w := range h.watchers {
		if !w.filter.wants(r) {
			continue
		}
		if len(w.calls) == waiting {
			w.drop()
			continue
		}
		if call.Record == nil {
			call = Call{r.Clone(), time.Now()}
		}
		select {
		case w.calls <- call:
		default:
			w.drop()
		}
	}
}
