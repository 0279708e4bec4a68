// Package launcher keeps plugins running: it checks their binaries and manifests, restarts processes that die, and attaches
// containers to them.
package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

const (
	// A run that ends sooner than steadyAfter counts as a failure of the plugin as a whole.
	steadyAfter = 30 * time.Second
	// maxFailures of those in a row, and the plugin is disabled.
	maxFailures = 10

	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

var (
	// ErrDisabled means that the plugin failed too often in a row and is not restarted.
	ErrDisabled = errors.New("the plugin is disabled: it failed too often in a row")
	// ErrRefused means that the plugin refused the container or its settings.
	ErrRefused = errors.New("the plugin refused to attach the container")
)

// Spec names a plugin's binary.
type Spec struct {
	Name   string
	Path   string
	SHA256 string // in hex; empty for any
	// GRPC has all calls go over gRPC, as those of a plugin that takes no lanes.
	GRPC bool
}

// Status is a plugin's state for an operator.
type Status struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	State    string `json:"state"` // running, starting, disabled, stopped
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts"`
	Error    string `json:"error,omitempty"` // why it last ended or could not start
}

// Plugin is a plugin that is kept running.
type Plugin struct {
	spec     Spec
	manifest *wire.Manifest
	log      zerolog.Logger
	hclog    hclog.Logger
	stop     context.CancelFunc
	done     chan struct{}

	mu       sync.Mutex
	current  *process
	changed  chan struct{} // closed and replaced at each change of current or end
	end      error         // ErrDisabled, or stopped
	last     error
	restarts int
}

var errStopped = errors.New("the plugin is stopped")

// Start starts the plugin and keeps it running until Stop. The first start must succeed.
func Start(spec Spec, manifest *wire.Manifest, log zerolog.Logger) (*Plugin, error) {
	log = log.With().Str("plugin", spec.Name).Logger()
	p := &Plugin{
		spec: spec, manifest: manifest, log: log, hclog: newHclog(spec.Name, log),
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	first, err := startProcess(spec, manifest, p.hclog)
	if err != nil {
		return nil, fmt.Errorf("start plugin %s: %w", spec.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.set(first, nil)
	go p.supervise(ctx, first)
	return p, nil
}

// Name is the plugin's name.
func (p *Plugin) Name() string { return p.spec.Name }

// Manifest is the plugin's manifest; it is not to be changed.
func (p *Plugin) Manifest() *wire.Manifest { return p.manifest }

// Stop ends the plugin and waits until its process is gone. Calls in it fail with lane.ErrDied.
func (p *Plugin) Stop() {
	p.stop()
	<-p.done
}

// supervise waits for the end of a run and starts the next, until the plugin is stopped or fails too often.
func (p *Plugin) supervise(ctx context.Context, current *process) {
	defer close(p.done)
	wait := firstBackoff
	for failures := 0; ; {
		var err error
		if current != nil {
			select {
			case <-ctx.Done():
			case <-current.Dead():
				err = fmt.Errorf("the process %d ended after %v", current.PID, time.Since(current.started).Round(time.Millisecond))
			}
			p.set(nil, err)
			current.Stop()
		}
		if ctx.Err() != nil {
			p.finish(errStopped)
			return
		}
		if current != nil && time.Since(current.started) >= steadyAfter {
			failures = 0
			wait = firstBackoff
		}
		if failures++; failures > maxFailures {
			p.log.Error().Err(p.lastError()).Int("failures", failures).Msg("plugin disabled: it failed too often in a row; its calls get the failure verdict until intercede is restarted or reloaded")
			p.finish(ErrDisabled)
			return
		}
		p.log.Warn().Err(p.lastError()).Msg("restarting the plugin")
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(wait*3/2, maxBackoff)
		current = p.restart(ctx)
	}
}

// restart starts the next run; nil if that failed.
func (p *Plugin) restart(ctx context.Context) *process {
	if ctx.Err() != nil {
		return nil
	}
	next, err := startProcess(p.spec, p.manifest, p.hclog)
	p.mu.Lock()
	p.restarts++
	p.mu.Unlock()
	p.set(next, err)
	return next
}

// set makes next the current process (nil: none) and wakes who waits for one.
func (p *Plugin) set(next *process, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = next
	if err != nil {
		p.last = err
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Plugin) finish(end error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = end
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Plugin) lastError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// running gives the current process, and waits for one while the plugin restarts.
func (p *Plugin) running(ctx context.Context) (*process, error) {
	for {
		p.mu.Lock()
		current, changed, end := p.current, p.changed, p.end
		p.mu.Unlock()
		if end != nil {
			return nil, end
		}
		if current != nil && !current.IsDead() {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the plugin to restart: %w", context.Cause(ctx))
		}
	}
}

// Status says how the plugin is.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{Name: p.spec.Name, Version: p.manifest.GetVersion(), State: "starting", Restarts: p.restarts}
	if p.last != nil {
		s.Error = p.last.Error()
	}
	switch {
	case p.end == ErrDisabled:
		s.State = "disabled"
	case p.end != nil:
		s.State = "stopped"
	case p.current != nil:
		s.State, s.PID = "running", p.current.PID
	}
	return s
}
