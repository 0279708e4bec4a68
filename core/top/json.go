package top

import (
	"encoding/json"
	"time"
)

// MarshalJSON encodes a sample with times in seconds, as docs/status.md says.
func (s *Sample) MarshalJSON() ([]byte, error) {
	containers, plugins := []containerJSON{}, []pluginJSON{}
	for i := range s.Containers {
		r := &s.Containers[i]
		containers = append(containers, containerJSON{r.ID, r.Name, r.figures(), r.Throttled})
	}
	for i := range s.Plugins {
		r := &s.Plugins[i]
		plugins = append(plugins, pluginJSON{r.ID, r.State, r.figures()})
	}
	return json.Marshal(struct {
		At         time.Time       `json:"at"`
		Period     float64         `json:"period_s"`
		Containers []containerJSON `json:"containers"`
		Plugins    []pluginJSON    `json:"plugins"`
	}{s.At, s.Period.Seconds(), containers, plugins})
}

type containerJSON struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	figuresJSON
	Throttled int `json:"throttled"`
}

type pluginJSON struct {
	Name  string `json:"name"`
	State string `json:"state"`
	figuresJSON
}

type figuresJSON struct {
	Rate        float64 `json:"calls_per_s"`
	Failed      float64 `json:"failed_per_s"`
	P50         float64 `json:"p50_s"`
	P99         float64 `json:"p99_s"`
	Inflight    int     `json:"inflight"`
	Quarantined int     `json:"quarantined"`
}

func (r *Row) figures() figuresJSON {
	return figuresJSON{r.Rate, r.Failed, r.P50.Seconds(), r.P99.Seconds(), r.Inflight, r.Quarantined}
}
