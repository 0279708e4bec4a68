package metrics

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of what a plugin, or a container by a plugin, can make of labels. Beyond them the label is [other].
const (
	maxSyscalls = 64  // of a plugin
	maxReasons  = 512 // of a plugin: combinations of a system call, an outcome and a reason
)

// Labels that stand for no value, and for those beyond the bounds.
const (
	none  = "none"
	other = "other"
)

// kinds are the outcomes, by their index in [series.plain].
var kinds = [...]audit.Kind{audit.Return, audit.Errno, audit.Continue, audit.AddFD, audit.Gone, audit.Again}

// Calls counts the calls of all containers. A nil Calls counts nothing.
type Calls struct {
	total     *prometheus.CounterVec
	durations *prometheus.HistogramVec
	throttled prometheus.Counter
	unkept    prometheus.Counter

	mu        sync.Mutex
	plugins   map[string]*Plugin
	undecided *Plugin // stands for none
}

func newCalls(registry prometheus.Registerer) *Calls {
	c := &Calls{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "calls_total",
			Help: "Calls that were answered, by the plugin that decided or gave the reason, the system call, what came of it and the reason's code.",
		}, []string{"plugin", "syscall", "outcome", "reason"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "call_duration_seconds",
			Help: "Time from the receipt of a call to its answer.",
			Buckets: []float64{
				10e-6, 20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5, 10,
			},
		}, []string{"plugin"}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "calls_throttled_total",
			Help: "How often a container's next call was delayed because the container had used up its rate.",
		}),
		unkept: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "descriptor_store_failures_total",
			Help: "Descriptors that the store did not take: their containers do not outlive the daemon.",
		}),
		plugins: map[string]*Plugin{},
	}
	registry.MustRegister(c.total, c.durations, c.throttled, c.unkept)
	c.undecided = c.Plugin(none)
	return c
}

// Undecided counts the calls of which no plugin decided or gave a reason; nil if c is.
func (c *Calls) Undecided() *Plugin {
	if c == nil {
		return nil
	}
	return c.undecided
}

// Throttle counts a call that is delayed by its container's rate.
func (c *Calls) Throttle() {
	if c != nil {
		c.throttled.Inc()
	}
}

// NotKept counts a descriptor that the store did not take.
func (c *Calls) NotKept() {
	if c != nil {
		c.unkept.Inc()
	}
}

// Plugin counts the calls of one plugin. Counting allocates nothing but at the first call of its kind.
type Plugin struct {
	Name  string
	calls *Calls

	duration prometheus.Observer
	syscalls atomic.Pointer[map[string]*series] // which is replaced, and never changed
	mu       sync.Mutex                         // held while it is replaced
	reasons  int                                // of all series
}

// series counts the calls of one plugin and one system call, by outcome.
type series struct {
	syscall string
	plain   [len(kinds)]prometheus.Counter                            // without a reason
	reasons [len(kinds)]atomic.Pointer[map[string]prometheus.Counter] // by code; as Plugin.syscalls
}

// Plugin returns what counts the calls of the plugin; nil if c is.
func (c *Calls) Plugin(name string) *Plugin {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.plugins[name]
	if p == nil {
		p = &Plugin{Name: name, calls: c, duration: c.durations.WithLabelValues(name)}
		p.syscalls.Store(&map[string]*series{})
		c.plugins[name] = p
	}
	return p
}

// Expect shows that there were no calls of the plugin and the system call, if there were none: so Prometheus sees the
// first one come.
func (p *Plugin) Expect(syscall string) { p.seriesOf(syscall) }

// Count counts a call.
func (p *Plugin) Count(syscall string, outcome *audit.Outcome, took time.Duration) {
	p.duration.Observe(took.Seconds())
	p.counter(syscall, outcome).Inc()
}

func (p *Plugin) counter(syscall string, outcome *audit.Outcome) prometheus.Counter {
	s, kind := p.seriesOf(syscall), indexOf(outcome.Kind)
	if outcome.Reason.Code == "" {
		return s.plain[kind]
	}
	if c := (*s.reasons[kind].Load())[outcome.Reason.Code]; c != nil {
		return c
	}
	return p.addReason(s, kind, outcome.Reason.Code)
}

// indexOf returns the index in kinds. Every call has one of them: the broker chooses it.
func indexOf(kind audit.Kind) int {
	for i, k := range kinds {
		if k == kind {
			return i
		}
	}
	return 0
}

func (p *Plugin) seriesOf(syscall string) *series {
	if strings.HasPrefix(syscall, "#") {
		syscall = other // a number for which nothing has a name: the container chose it
	}
	if s := (*p.syscalls.Load())[syscall]; s != nil {
		return s
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	known := *p.syscalls.Load()
	if len(known) >= maxSyscalls {
		syscall = other
	}
	if s := known[syscall]; s != nil {
		return s
	}
	s := &series{syscall: syscall}
	for i, kind := range kinds {
		s.plain[i] = p.calls.total.WithLabelValues(p.Name, syscall, string(kind), none)
		s.reasons[i].Store(&map[string]prometheus.Counter{})
	}
	replaced := maps.Clone(known)
	replaced[syscall] = s
	p.syscalls.Store(&replaced)
	return s
}

func (p *Plugin) addReason(s *series, kind int, code string) prometheus.Counter {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := *s.reasons[kind].Load()
	if known[code] == nil && p.reasons >= maxReasons {
		code = other
	}
	if c := known[code]; c != nil {
		return c
	}
	c := p.calls.total.WithLabelValues(p.Name, s.syscall, string(kinds[kind]), code)
	replaced := maps.Clone(known)
	replaced[code] = c
	s.reasons[kind].Store(&replaced)
	p.reasons++
	return c
}
