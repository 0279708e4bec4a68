package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// State is what is looked up at each scrape.
type State struct {
	Up         bool // calls are taken from the kernel
	Containers map[ContainerState]int
	InFlight   int               // calls
	Waiting    map[Limit]int     // listeners
	Plugins    []PluginState     // that run, or are to run
	Dropped    map[Reader]uint64 // records, since the daemon started
	Journal    Use
	Store      *Use // of descriptors; nil: there is no store
	Reloaded   Reload
}

// ContainerState is a state of a container, which has one.
type ContainerState string

// The states of containers.
const (
	Attached    ContainerState = "attached"    // calls are answered
	Quarantined ContainerState = "quarantined" // attached, but some calls get the failure verdict at once
	Lost        ContainerState = "lost"        // the listeners ended with an earlier daemon: calls get ENOSYS
	Plain       ContainerState = "plain"       // created without interception
)

var containerStates = []ContainerState{Attached, Quarantined, Lost, Plain}

// Limit is what listeners wait for, before they are asked for the next call.
type Limit string

// The limits.
const (
	Inflight Limit = "max_inflight" // the container has as many calls as it may
	Workers  Limit = "workers"      // the broker has no thread for another call of the container
)

var limits = []Limit{Inflight, Workers}

// Reader is who reads records that are dropped while it does not take them.
type Reader string

// The readers.
const (
	Log   Reader = "log"
	Audit Reader = "audit"
	Trace Reader = "trace"
)

var readers = []Reader{Log, Audit, Trace}

// PluginState is the state of a plugin.
type PluginState struct {
	ID       any // no other plugin has it, which may have the same name: one of an earlier config
	Name     string
	State    string // one of PluginStates
	Restarts int    // since the plugin was started
	Refused  int    // system calls that the sandbox refused it, since the plugin was started
}

// Use says how much of something is used.
type Use struct{ Used, Size int } // Size 0: it is not known

// Reload is what came of the last reload, or of the start.
type Reload struct {
	OK   bool
	Last time.Time // when the config that is in force was read
}

// PluginStates are those of package launcher, as labels.
var PluginStates = []string{"running", "starting", "backing_off", "stopped"}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

var (
	up         = describe("up", "Whether the broker takes calls from the kernel: 1, or 0 if it hangs.")
	containers = describe("containers", "Containers by their state.", "state")
	inFlight   = describe("calls_in_flight", "Calls that are being answered.")
	waiting    = describe("listeners_waiting",
		"Listeners that are not asked for their next call, because their container has reached a limit.", "limit")
	pluginState    = describe("plugin_state", "Whether the plugin is in the state: 1, or 0. Two if it runs for an earlier config too.", "plugin", "state")
	pluginRestarts = describe("plugin_restarts_total", "How often the plugin was started again after its process had ended.", "plugin")
	pluginRefused  = describe("plugin_refused_syscalls_total", "System calls that the sandbox refused to the plugin.", "plugin")
	dropped        = describe("records_dropped_total", "Records that were dropped because their reader did not take them in time.", "reader")
	journalUsed    = describe("journal_slots_used", "Slots of the journal that threads of the broker have. One without a slot has calls that do not outlive the daemon.")
	journalSize    = describe("journal_slots", "Slots of the journal.")
	storeThere     = describe("descriptor_store_available", "Whether a descriptor store keeps the containers when the daemon ends: 1, or 0.")
	storeUsed      = describe("descriptor_store_used", "Descriptors in the store.")
	storeSize      = describe("descriptor_store_size", "Descriptors that the store takes; not there if that is not known.")
	reloadOK       = describe("config_last_reload_successful", "Whether the last reload of the config was successful: 1, or 0.")
	reloadTime     = describe("config_last_reload_success_timestamp_seconds", "When the config that is in force was read, as Unix time.")
)

// stateCollector shows the state at each scrape.
type stateCollector struct {
	look func() State

	mu     sync.Mutex        // held during a scrape, so that no counter becomes less
	before map[any]events    // of the plugins of the last scrape, by PluginState.ID
	totals map[string]events // of all plugins that had the name
}

// events are what has happened to a plugin.
type events struct{ restarts, refused int }

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		up, containers, inFlight, waiting, pluginState, pluginRestarts, pluginRefused, dropped, journalUsed, journalSize, storeThere,
		storeUsed, storeSize, reloadOK, reloadTime,
	} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.look()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(up, asFloat(s.Up))
	for _, state := range containerStates {
		gauge(containers, float64(s.Containers[state]), string(state))
	}
	gauge(inFlight, float64(s.InFlight))
	for _, limit := range limits {
		gauge(waiting, float64(s.Waiting[limit]), string(limit))
	}
	gauge(journalUsed, float64(s.Journal.Used))
	gauge(journalSize, float64(s.Journal.Size))
	gauge(storeThere, asFloat(s.Store != nil))
	if s.Store != nil {
		gauge(storeUsed, float64(s.Store.Used))
	}
	if s.Store != nil && s.Store.Size > 0 {
		gauge(storeSize, float64(s.Store.Size))
	}
	gauge(reloadOK, asFloat(s.Reloaded.OK))
	gauge(reloadTime, float64(s.Reloaded.Last.UnixMilli())/1000)
	for _, reader := range readers {
		metrics <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(s.Dropped[reader]), string(reader))
	}
	c.collectPlugins(metrics, s.Plugins)
}

func (c *stateCollector) collectPlugins(metrics chan<- prometheus.Metric, plugins []PluginState) {
	inState := map[string]map[string]int{}
	for _, p := range plugins {
		if inState[p.Name] == nil {
			inState[p.Name] = map[string]int{}
		}
		inState[p.Name][p.State]++
	}
	for name, states := range inState {
		for _, state := range PluginStates {
			metrics <- prometheus.MustNewConstMetric(pluginState, prometheus.GaugeValue, float64(states[state]), name, state)
		}
	}
	for name, total := range c.addUp(plugins) {
		metrics <- prometheus.MustNewConstMetric(pluginRestarts, prometheus.CounterValue, float64(total.restarts), name)
		metrics <- prometheus.MustNewConstMetric(pluginRefused, prometheus.CounterValue, float64(total.refused), name)
	}
}

// addUp adds what has happened since the last scrape to the totals, and returns those of the plugins that are there. A
// plugin counts from its own start, and another one of the name takes its place at a reload.
func (c *stateCollector) addUp(plugins []PluginState) map[string]events {
	now, shown := map[any]events{}, map[string]events{}
	for _, p := range plugins {
		before, total := c.before[p.ID], c.totals[p.Name]
		total.restarts += p.Restarts - before.restarts
		total.refused += p.Refused - before.refused
		now[p.ID] = events{p.Restarts, p.Refused}
		c.totals[p.Name], shown[p.Name] = total, total
	}
	c.before = now
	return shown
}

func asFloat(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
