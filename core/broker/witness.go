package broker

import (
	"sync"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/event"
	"github.com/intercede/intercede/core/trace"
	"github.com/intercede/intercede/internal/loglimit"
	"github.com/intercede/intercede/internal/wire"
)

// witness is who is shown the end of a call beside the log. It is found before the call is answered: the caller can be
// looked at only while it waits.
type witness struct {
	caller     *audit.Caller // nil: nobody is shown the call
	audited    bool
	suppressed int  // events of the kind before it
	listed     bool // as the last refusal of its kind
}

// witnesses finds who is shown a call that ends so, of the thread. by is the plugin that decided; nil: none did.
func (a *attachment) witnesses(tid uint32, by *boundPlugin, response *wire.Response, reason *audit.Reason) (w witness) {
	performed := by != nil && by.privileged && performs(response)
	refused := reason.Code != "" && reason.Code != codeNotTaken && reason.Code != codeNotWanted
	if refused {
		w.listed = a.refusals.count(reason, time.Now())
	}
	if performed || refused {
		w.suppressed, w.audited = a.sample(by, reason)
	}
	if tid != 0 && (w.listed || w.audited || a.broker.trace.Watched()) {
		w.caller = audit.ReadCaller(int(tid))
	}
	return w
}

// performs reports whether the plugin has done what the caller asked for.
func performs(response *wire.Response) bool {
	switch response.GetKind().(type) {
	case *wire.Response_Value, *wire.Response_AddFd:
		return true
	}
	return false
}

// sampleKind is a kind of events, of which so many are written in a second.
type sampleKind struct {
	plugin, reason string
}

// samples are the limits of one container's events.
type samples struct {
	mu   sync.Mutex
	rate int // that the limits have
	kind map[sampleKind]*loglimit.Limit
	all  *loglimit.Limit // of all kinds together
}

// limits returns those that count for an event of the kind. A reload may have changed the rate.
func (s *samples) limits(kind sampleKind, rate int) (own, all *loglimit.Limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rate != rate {
		s.rate, s.kind, s.all = rate, map[sampleKind]*loglimit.Limit{}, loglimit.New(maxKindsAtRate*rate)
	}
	if s.kind[kind] == nil {
		s.kind[kind] = loglimit.New(rate)
	}
	return s.kind[kind], s.all
}

// maxKindsAtRate is how many kinds of events a container can have at once at the full rate.
const maxKindsAtRate = 4

// sample reports whether an event is written, and how many of its kind were not since the one before.
func (a *attachment) sample(by *boundPlugin, reason *audit.Reason) (suppressed int, ok bool) {
	rate := a.broker.audit.Rate()
	if rate == 0 {
		return 0, false
	}
	kind := sampleKind{reason.Plugin, reason.Code}
	if by != nil {
		kind.plugin = by.binding.Plugin.Name()
	}
	limit, all := a.samples.limits(kind, rate)
	if suppressed, ok = limit.Take(1); !ok {
		return 0, false
	}
	if _, ok = all.Take(1); ok {
		ok = a.broker.audit.Take()
	}
	if !ok {
		limit.Miss(suppressed + 1)
		return 0, false
	}
	return suppressed, true
}

// show shows the record of a call that has ended to who is to see it.
func (a *attachment) show(r *audit.Record, w witness) {
	a.broker.trace.Show(r)
	if !w.audited && !w.listed {
		return
	}
	e := event.Of(r, time.Now())
	e.Suppressed = w.suppressed
	if w.audited {
		a.broker.audit.Put(e)
	}
	if w.listed {
		a.refusals.show(e)
	}
}

// CountWatched returns how many attached containers have calls that the filter may want.
func (b *Broker) CountWatched(f trace.Filter) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, a := range b.containers {
		if f.HasContainer(a.about.ID, a.about.Name) {
			n++
		}
	}
	return n
}

// Watch begins to show calls as they happen.
func (b *Broker) Watch(f trace.Filter) (*trace.Watcher, error) { return b.trace.Watch(f) }
