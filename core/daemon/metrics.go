package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/metrics"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/version"
)

// errNoMetrics means that the daemon does not count.
var errNoMetrics = errors.New(`there are no metrics: give [broker] metrics an address, such as "127.0.0.1:9099", and restart the daemon`)

// newMetrics makes the metrics that the config asks for; nil: none.
func (s *Setup) newMetrics() *metrics.Metrics {
	if s.Policy.Broker.Metrics == "" {
		return nil
	}
	return metrics.New(version.Number())
}

// warnOfMetrics warns of metrics that other hosts can read.
func (s *Setup) warnOfMetrics() config.Problems {
	address, err := netip.ParseAddrPort(s.Policy.Broker.Metrics)
	if err != nil || address.Addr().Unmap().IsLoopback() {
		return nil
	}
	problem := s.doc.Problem(config.Key{"broker", "metrics"}, fmt.Sprintf("%s is not a loopback address: other hosts can read "+
		"which plugins there are and what containers call, if no firewall keeps them from it", address))
	problem.Warning = true
	return config.Problems{problem}
}

// listenMetrics binds the address of the config, if there is one.
func (s *Server) listenMetrics(setup *Setup) (err error) {
	s.metricsAddress = setup.Policy.Broker.Metrics
	if s.metricsAddress == "" {
		return nil
	}
	s.metrics, err = metrics.Listen(s.metricsAddress)
	return err
}

// serveMetrics serves them, if there are any, until Close. Containers are served without them too.
func (s *Server) serveMetrics() error {
	if s.metrics == nil {
		return nil
	}
	if err := s.metrics.Serve(s.engine.metrics); err != nil {
		s.log.Error().Err(err).Msg("metrics are not served any more")
	}
	return nil
}

// writeMetrics writes the metrics as text.
func (s *Server) writeMetrics(w io.Writer) error {
	if s.engine.metrics == nil {
		return errNoMetrics
	}
	return s.engine.metrics.WriteText(w)
}

// look looks at what is shown at a scrape.
func (s *Server) look() metrics.State {
	figures := s.engine.Figures()
	state := metrics.State{
		Up: s.takesCalls(),
		Containers: map[metrics.ContainerState]int{
			metrics.Attached:    figures.Containers - figures.Quarantined,
			metrics.Quarantined: figures.Quarantined,
			metrics.Lost:        len(s.engine.Lost()),
			metrics.Plain:       len(record.ListPlain(filepath.Dir(s.sockets.control))),
		},
		InFlight: figures.InFlight,
		Waiting:  map[metrics.Limit]int{metrics.Inflight: figures.Full, metrics.Workers: figures.Unmanned},
		Dropped:  map[metrics.Reader]uint64{metrics.Audit: s.engine.audit.Dropped(), metrics.Trace: s.engine.DroppedCalls()},
		Journal:  s.engine.JournalUse(),
		Reloaded: s.lastReloaded(),
	}
	if s.DroppedRecords != nil {
		state.Dropped[metrics.Log] = s.DroppedRecords()
	}
	if store := s.manager.Store; store.Available() {
		state.Store = &metrics.Use{Used: store.Count(), Size: store.Size()}
	}
	for _, p := range s.engine.Plugins() {
		state.Plugins = append(state.Plugins, stateOf(p))
	}
	return state
}

// pingTime is how long a scrape waits for the broker to take an event: it takes microseconds.
const pingTime = 2 * time.Second

func (s *Server) takesCalls() bool {
	ctx, cancel := context.WithTimeout(context.Background(), pingTime)
	defer cancel()
	return s.engine.Ping(ctx) == nil
}

func stateOf(p *launcher.Plugin) metrics.PluginState {
	status := p.Status()
	refused := 0
	for _, times := range status.Refused {
		refused += times
	}
	return metrics.PluginState{
		ID: p, Name: status.Name, State: strings.ReplaceAll(status.State, " ", "_"), Restarts: status.Restarts, Refused: refused,
	}
}
