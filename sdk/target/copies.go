package target

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A helper process is forked with copies of all descriptors of this process. It closes those that it does not need at
// once, but for a moment it has them: a mount that a copy is on is busy then, to a caller that unmounts it.

// copies are the helper processes that may not have closed theirs.
var copies struct {
	some atomic.Int32 // as many as there are
	mu   sync.Mutex
	of   map[*report]struct{}
}

const (
	// copyTime bounds the wait for a helper process to close its copies. It is short unless the host is very busy.
	copyTime     = time.Second
	copyInterval = 50 * time.Microsecond
)

// copying notes a helper process that is about to be forked. The returned function is called when it has ended, before
// its report is unmapped.
func copying(r *report) (over func()) {
	copies.mu.Lock()
	defer copies.mu.Unlock()
	if copies.of == nil {
		copies.of = map[*report]struct{}{}
	}
	copies.of[r] = struct{}{}
	copies.some.Add(1)
	return func() {
		copies.mu.Lock()
		defer copies.mu.Unlock()
		delete(copies.of, r)
		copies.some.Add(-1)
	}
}

// awaitCopies is acting.AwaitCopies.
func awaitCopies() {
	if copies.some.Load() == 0 {
		return
	}
	copies.mu.Lock()
	before := slices.Collect(maps.Keys(copies.of))
	copies.mu.Unlock()
	for _, r := range before {
		for end := time.Now().Add(copyTime); mayHaveCopies(r) && time.Now().Before(end); time.Sleep(copyInterval) {
		}
	}
}

// mayHaveCopies reports whether a helper process lives that has not closed its copies.
func mayHaveCopies(r *report) bool {
	copies.mu.Lock()
	defer copies.mu.Unlock()
	_, lives := copies.of[r] // its report can be read then
	return lives && atomic.LoadInt32(&r.closed) == 0
}
