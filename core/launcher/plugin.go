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
	// steadyAfter is how long a run must last: one that ends sooner counts as a failure.
	steadyAfter = 30 * time.Second
	// maxFailures is how many failures in a row are borne: after one more the plugin is disabled.
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
	// GRPC makes all calls go over gRPC, like those of a plugin that has no lanes.
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

// Plugin is a running plugin, which is started again if it dies.
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

// Name returns the plugin's name.
func (p *Plugin) Name() string { return p.spec.Name }

// Manifest returns the plugin's manifest, which must not be changed.
func (p *Plugin) Manifest() *wire.Manifest { return p.manifest }

// Stop ends the plugin and waits until its process is gone. Calls in it fail with lane.ErrDied.
func (p *Plugin) Stop() {
	p.stop()
	<-p.done
}

// supervise keeps the plugin running, and notes why it gave up.
func (p *Plugin) supervise(ctx context.Context, current *process) {
	defer close(p.done)
	p.finish(p.keepRunning(ctx, current))
}

// keepRunning starts the next run after the end of each, until the plugin is stopped or fails too often.
func (p *Plugin) keepRunning(ctx context.Context, current *process) error {
	wait := firstBackoff
	for failures := 0; ; {
		if p.awaitEnd(ctx, current) {
			failures, wait = 0, firstBackoff
		}
		if ctx.Err() != nil {
			return errStopped
		}
		if failures++; failures > maxFailures {
			p.log.Error().Err(p.lastError()).Int("failures", failures).
				Msg("plugin disabled: it failed too often in a row; its calls get the failure verdict until intercede is restarted or reloaded")
			return ErrDisabled
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

// awaitEnd waits until the run ends, or the plugin is stopped, and cleans up after it. It reports whether the run was a
// steady one. A run that did not start is nil.
func (p *Plugin) awaitEnd(ctx context.Context, run *process) (steady bool) {
	if run == nil {
		return false
	}
	var err error
	select {
	case <-ctx.Done():
	case <-run.Dead():
		err = fmt.Errorf("the process %d ended after %v", run.PID, time.Since(run.started).Round(time.Millisecond))
	}
	p.set(nil, err)
	run.Stop()
	return time.Since(run.started) >= steadyAfter
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

// set makes next the current process (nil: none) and wakes those that wait for one.
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

// running returns the current process, and waits for one while the plugin restarts.
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

// Status returns the plugin's state.
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
