package broker

import (
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
	a.mu.Lock()
	limit := a.samples[kind]
	if limit == nil {
		if a.samples == nil {
			a.samples = map[sampleKind]*loglimit.Limit{}
		}
		limit = loglimit.New(rate)
		a.samples[kind] = limit
	}
	a.mu.Unlock()
	return limit.Take(1)
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
