package target

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// A fork copies this process's page tables, and holds up its other threads meanwhile. After it the kernel copies each
// page that one of them writes first (dup_mmap, kernel/fork.c; do_wp_page, mm/memory.c). So calls that need helper
// processes slow down all other calls here, also those of containers that need none.

const (
	// turnFactor makes the time from one turn of a container to its next of the processor time that a fork takes: all
	// of its forks together have at most a twentieth of the time.
	turnFactor = 20
	// maxTurn bounds that time, for the sake of the deadlines of those who wait.
	maxTurn = 10 * time.Millisecond
	// turnsSaved is how many turns a container that has used none finds at once: a mount takes a few.
	turnsSaved = 6
	// companyTime is how long it counts that calls of more than one container have come.
	companyTime = time.Second
)

// turns are when containers may have helper processes, while this process has calls of more than one.
var turns = turnKeeper{began: time.Now(), next: map[NamespaceID]time.Time{}}

type turnKeeper struct {
	began    time.Time
	company  atomic.Int64 // until when there is company, in ns after began
	interval atomic.Int64 // between two turns of a container, in ns

	mu   sync.Mutex
	next map[NamespaceID]time.Time // from which on all turns of a container are saved, if that is not past
}

// alternate is acting.Alternate.
func (k *turnKeeper) alternate(now time.Time) {
	k.company.Store(int64(now.Add(companyTime).Sub(k.began)))
}

// forked notes how much processor time a fork took.
func (k *turnKeeper) forked(took time.Duration) {
	k.interval.Store(int64(min(turnFactor*took, maxTurn)))
}

// await waits for the container's next turn. The error is ctx's.
func (k *turnKeeper) await(ctx context.Context, container NamespaceID) error {
	wait := k.take(container, time.Now())
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take takes the container's next turn and returns how long it is until then.
func (k *turnKeeper) take(container NamespaceID, now time.Time) time.Duration {
	if int64(now.Sub(k.began)) >= k.company.Load() {
		return 0
	}
	interval := time.Duration(k.interval.Load())
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.next, func(_ NamespaceID, next time.Time) bool { return !next.After(now) })
	next, ok := k.next[container]
	if !ok {
		next = now
	}
	k.next[container] = next.Add(interval)
	return next.Sub(now) - (turnsSaved-1)*interval
}
