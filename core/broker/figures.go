package broker

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/figures"
)

// containerFigures count the calls of one container.
type containerFigures struct {
	calls     figures.Counter
	durations figures.Histogram // from the receipt to the answer
}

func (f *containerFigures) count(r *audit.Record) {
	f.calls.Count(&r.Outcome)
	f.durations.Observe(r.Duration)
}

// pluginFigures count the calls of one container that a plugin has decided or handed back.
type pluginFigures struct {
	calls figures.Counter
	total *pluginTotal
}

// pluginTotal counts the calls of all containers, those that have ended too.
type pluginTotal struct {
	calls     figures.Counter
	durations figures.Histogram // that the plugin has taken
}

// count counts a call that the plugin has decided; nil: none has.
func (p *boundPlugin) count(o *audit.Outcome) {
	if p != nil {
		p.figures.calls.Count(o)
		p.figures.total.calls.Count(o)
	}
}

// countNext counts a call that the plugin has handed back.
func (p *boundPlugin) countNext() {
	p.figures.calls.CountNext()
	p.figures.total.calls.CountNext()
}

// observe counts what the plugin has taken for a call that it was asked about.
func (p *boundPlugin) observe(took time.Duration) { p.figures.total.durations.Observe(took) }

// pluginTotals are those of the plugins, by name, that some container has had.
type pluginTotals struct {
	mu     sync.Mutex
	byName map[string]*pluginTotal
}

func (t *pluginTotals) newFigures(plugin string) *pluginFigures {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = map[string]*pluginTotal{}
	}
	if t.byName[plugin] == nil {
		t.byName[plugin] = &pluginTotal{}
	}
	return &pluginFigures{total: t.byName[plugin]}
}

// figuresAfter are those of the container's use of the plugin before, or new ones.
func (a *attachment) figuresAfter(was *boundPlugin, plugin string) *pluginFigures {
	if was != nil {
		return was.figures
	}
	return a.broker.totals.newFigures(plugin)
}

// PluginCalls are the calls that a plugin was asked about, of all containers, since the daemon started.
type PluginCalls struct {
	Plugin    string            `json:"plugin"`
	Inflight  int               `json:"inflight"` // calls being handled, of which it was asked last
	Outcomes  figures.Calls     `json:"outcomes"`
	Durations figures.Durations `json:"durations"` // that the plugin has taken
}

// PluginCalls lists the plugins that some container has had, by name.
func (b *Broker) PluginCalls() []PluginCalls {
	inflight := b.watchdog.countAsked()
	b.totals.mu.Lock()
	defer b.totals.mu.Unlock()
	list := []PluginCalls{}
	for name, total := range b.totals.byName {
		list = append(list, PluginCalls{name, inflight[name], total.calls.Calls(), total.durations.Durations()})
	}
	slices.SortFunc(list, func(x, y PluginCalls) int { return cmp.Compare(x.Plugin, y.Plugin) })
	return list
}

// countAsked returns how many calls are under way of which each plugin was asked last.
func (w *watchdog) countAsked() map[string]int {
	count := map[string]int{}
	for _, p := range w.all() {
		p.mu.Lock()
		if p.call != nil && p.plugin != nil {
			count[p.plugin.binding.Plugin.Name()]++
		}
		p.mu.Unlock()
	}
	return count
}

// throttledListeners returns how many wait because the container is at its limits.
func (a *admission) throttledListeners() int { return a.countPaused() + int(a.delayed.Load()) }

// GenerationNumber is that of the config that containers get that are attached from now on.
func (b *Broker) GenerationNumber() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.generation.Number
}
