// Package top makes tables of what containers and plugins do, of two answers of the daemon.
package top

import (
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/launcher"
)

// Row is what one container or plugin does.
type Row struct {
	ID          string        // of a container; a plugin's name
	Name        string        // of a container; empty: none is known
	State       string        // of a plugin
	Rate        float64       // calls that ended, per second
	Failed      float64       // of them, those that got a failure verdict
	P50, P99    time.Duration // of a container's whole calls; of what a plugin takes. 0: there was no call
	Inflight    int
	Throttled   int // listeners of a container that wait, because it is at its limits
	Quarantined int // for which plugins a container is quarantined, or how many containers are for a plugin
}

// Sample is what happens from one answer of the daemon to the next.
type Sample struct {
	At         time.Time
	Period     time.Duration // that the rates and durations are of
	Containers []Row
	Plugins    []Row
}

// Between makes a sample. Without an answer before, or with one of an earlier daemon, it is of all that the daemon has
// counted.
func Between(before, now *control.Status) *Sample {
	s := &Sample{At: now.At, Containers: []Row{}, Plugins: []Row{}}
	if before == nil || before.PID != now.PID || !before.Started.Equal(now.Started) {
		before = &control.Status{At: now.Started}
	}
	s.Period = max(now.At.Sub(before.At), time.Millisecond)
	old := map[containerKey]*broker.ContainerStatus{}
	for i := range before.Containers {
		old[keyOf(&before.Containers[i])] = &before.Containers[i]
	}
	for i := range now.Containers {
		c := &now.Containers[i]
		was := old[keyOf(c)]
		if was == nil {
			was = &broker.ContainerStatus{}
		}
		r := Row{ID: c.ID, Name: c.Name, Inflight: c.Inflight, Throttled: c.Throttled, Quarantined: len(c.Quarantines)}
		r.measure(s.Period, c.Outcomes.Since(was.Outcomes), c.Durations.Since(was.Durations))
		s.Containers = append(s.Containers, r)
	}
	s.addPlugins(before, now)
	return s
}

// containerKey tells a container from a later one with its ID.
type containerKey struct {
	id       string
	initPID  int
	attached int64
}

func keyOf(c *broker.ContainerStatus) containerKey {
	return containerKey{c.ID, c.InitPID, c.Attached.UnixNano()}
}

func (r *Row) measure(period time.Duration, calls figures.Calls, durations figures.Durations) {
	r.Rate = float64(calls.All()) / period.Seconds()
	r.Failed = float64(calls.Failed) / period.Seconds()
	r.P50, r.P99 = durations.Quantile(0.5), durations.Quantile(0.99)
}

// addPlugins adds a row for each name: a reload can leave two programs of one.
func (s *Sample) addPlugins(before, now *control.Status) {
	rows := map[string]int{}
	row := func(name string) *Row {
		i, known := rows[name]
		if !known {
			i = len(s.Plugins)
			rows[name] = i
			s.Plugins = append(s.Plugins, Row{ID: name, State: launcher.Stopped})
		}
		return &s.Plugins[i]
	}
	for _, p := range now.Plugins { // the one that was started last is the last
		row(p.Name).State = p.State
	}
	old := map[string]broker.PluginCalls{}
	for _, p := range before.PluginCalls {
		old[p.Plugin] = p
	}
	for _, p := range now.PluginCalls {
		r := row(p.Plugin)
		r.Inflight = p.Inflight
		r.measure(s.Period, p.Outcomes.Since(old[p.Plugin].Outcomes), p.Durations.Since(old[p.Plugin].Durations))
	}
	for _, c := range now.Containers {
		for _, q := range c.Quarantines {
			if q.Plugin != "" {
				row(q.Plugin).Quarantined++
			}
		}
	}
}
