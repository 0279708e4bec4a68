package broker

import (
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/event"
)

const (
	// maxRefusals bounds the kinds of refusals that are kept for one container.
	maxRefusals = 16
	// refusalInterval is how often the last call of a kind is looked at: a container calls as often as it likes.
	refusalInterval = time.Second
)

// refusals are the last calls of a container that were refused or left to the kernel for a reason, one of each kind.
type refusals struct {
	mu   sync.Mutex
	list []*refusal // the one that was counted last is the last
}

// refusal are the calls of one kind.
type refusal struct {
	plugin, code string
	calls        uint64
	first, last  time.Time
	shown        time.Time // when the example was asked for
	example      event.Event
}

// Refusal are the calls of a container that had one reason.
type Refusal struct {
	Calls uint64    `json:"calls"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Example is one of the last of them.
	Example event.Event `json:"example"`
	// Help is what the reason means, and what an operator can do; empty: it is not known.
	Help string `json:"help"`
}

// count counts a call, and reports whether show is to be called with it.
func (r *refusals) count(reason *audit.Reason, now time.Time) (wanted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(k *refusal) bool { return k.code == reason.Code && k.plugin == reason.Plugin })
	var k *refusal
	if i < 0 {
		k = &refusal{plugin: reason.Plugin, code: reason.Code, first: now}
	} else {
		k = r.list[i]
		r.list = slices.Delete(r.list, i, i+1)
	}
	if len(r.list) >= maxRefusals {
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, k)
	k.calls++
	k.last = now
	if now.Sub(k.shown) < refusalInterval {
		return false
	}
	k.shown = now
	return true
}

// show keeps an event as the example of its kind.
func (r *refusals) show(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.list {
		if k.code == e.Reason && (k.plugin == e.Plugin || k.plugin == "") {
			k.example = e
			return
		}
	}
}

// all returns what is kept, the last first.
func (r *refusals) all(help func(plugin, code string) string) []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []Refusal{}
	for _, k := range slices.Backward(r.list) {
		if k.example.Schema != 0 { // the first call of its kind is answered
			list = append(list, Refusal{k.calls, k.first, k.last, k.example, help(k.plugin, k.code)})
		}
	}
	return list
}

// listRefusals lists the container's last refusals, the last first.
func (a *attachment) listRefusals() []Refusal { return a.refusals.all(a.help) }

// help is what a reason means: the plugin's manifest says it, or the broker's table.
func (a *attachment) help(plugin, code string) string {
	reasons := Reasons
	if plugin != "" {
		t := a.terms.Load()
		if t == nil || t.plugin(plugin) == nil {
			return ""
		}
		reasons = t.plugin(plugin).binding.Plugin.Manifest().GetReasons()
	}
	for _, r := range reasons {
		if r.GetCode() == code {
			return r.GetHelp()
		}
	}
	return ""
}
