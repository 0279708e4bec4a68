package broker

import (
	"cmp"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/metrics"
)

// expectCalls finds what counts the calls of each of the plugins, once for all of them; nil: nothing does.
func (t *terms) expectCalls(calls *metrics.Calls) {
	if calls == nil {
		return
	}
	for i := range t.plugins {
		t.plugins[i].calls = calls.Plugin(t.plugins[i].binding.Plugin.Name())
	}
	for syscall, routes := range t.routes {
		for _, r := range routes {
			t.plugins[r.plugin].calls.Expect(syscall)
		}
	}
}

// count counts a call that has ended.
func (a *attachment) count(r *audit.Record) {
	if a.broker.calls == nil {
		return
	}
	by, counter := cmp.Or(r.Outcome.Plugin, r.Outcome.Reason.Plugin), a.broker.calls.Undecided()
	plugins := a.bound()
	for i := range plugins {
		if plugins[i].calls.Name == by {
			counter = plugins[i].calls
			break
		}
	}
	counter.Count(r.Syscall, &r.Outcome, r.Duration)
}

// Figures are of all attached containers together.
type Figures struct {
	Containers  int
	Quarantined int // of Containers: some of their calls get the failure verdict at once
	InFlight    int // calls
	Full        int // listeners whose container has as many calls as it may
	Unmanned    int // listeners whose next call waits for a worker
}

// Figures looks at all containers.
func (b *Broker) Figures() (f Figures) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.containers {
		f.Containers++
		if len(a.quarantines()) > 0 {
			f.Quarantined++
		}
		a.admission.addTo(&f)
	}
	return f
}

func (a *admission) addTo(f *Figures) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.InFlight += a.calls
	f.Full += len(a.paused)
	f.Unmanned += len(a.refused)
}

// DroppedCalls returns how many calls watchers did not take in time.
func (b *Broker) DroppedCalls() uint64 { return b.trace.Dropped() }

// JournalUse returns how many slots of the journal are taken, and how many there are.
func (b *Broker) JournalUse() metrics.Use {
	used, size := b.state.Journal.Use()
	return metrics.Use{Used: used, Size: size}
}
