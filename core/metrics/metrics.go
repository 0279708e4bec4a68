// Package metrics counts what the daemon does, and shows that to Prometheus. docs/metrics.md describes each metric.
package metrics

import (
	"fmt"
	"io"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// prefix begins the name of each metric but those of the Go runtime and of the process.
const prefix = "intercede_"

// Metrics are those of one daemon.
type Metrics struct {
	calls    *Calls
	registry *prometheus.Registry
}

// New makes the metrics of a daemon of this version of the project.
func New(version string) *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "build_info", Help: "Which build of the project the daemon is: always 1.",
			ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
	)
	return &Metrics{calls: newCalls(registry), registry: registry}
}

// Calls counts calls for the metrics; nil if m is.
func (m *Metrics) Calls() *Calls {
	if m == nil {
		return nil
	}
	return m.calls
}

// Watch has each scrape show the state that look returns. It must be called once at most. For a nil m nothing is shown.
func (m *Metrics) Watch(look func() State) {
	if m == nil {
		return
	}
	m.registry.MustRegister(&stateCollector{look: look, totals: map[string]events{}})
}

// WriteText writes all metrics in the text format of Prometheus.
func (m *Metrics) WriteText(w io.Writer) error {
	families, err := m.registry.Gather()
	if err != nil {
		return fmt.Errorf("gathering metrics: %w", err)
	}
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
			return err
		}
	}
	return nil
}
