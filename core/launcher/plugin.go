// Package launcher keeps plugins running: it checks their binaries and manifests, restarts processes that die, and
// attaches containers to them.
package launcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
	protobuf "google.golang.org/protobuf/proto"
)

// steadyAfter is how long a run must last: one that ends sooner makes the pause before the next start longer.
const steadyAfter = 30 * time.Second

// maxLingering bounds the killed processes of a plugin that cannot end, because a thread of theirs hangs in the kernel.
const maxLingering = 4

var (
	// ErrDown means that the plugin does not run, and is not started again before the call's deadline.
	ErrDown = errors.New("the plugin is down")
	// ErrRefused means that the plugin refused the container or its settings.
	ErrRefused = errors.New("the plugin refused to attach the container")
)

// Spec names a plugin's binary.
type Spec struct {
	Name   string
	Path   string
	SHA256 string // in hex; empty for any
	// GRPC makes all calls go over gRPC, like those of a plugin that has no lanes.
	GRPC   bool
	Limits sandbox.Limits
	Times  Times
	// Grant is what its process may have; nil: nothing beyond what every plugin has.
	Grant *grant.Grant
	// Rooms bounds the processes of their own that containers have; nil: they have none.
	Rooms *Rooms
}

// Times are how long the launcher waits. A zero one is as usual.
type Times struct {
	FirstPause time.Duration // between a steady run and the next start; it doubles with each run that is not steady
	MaxPause   time.Duration // that it does not exceed
	Health     time.Duration // without any answer, after which a suspected plugin is killed

	Quarantine    time.Duration // of a container for the first time; each further one is twice as long
	MaxQuarantine time.Duration // that it does not exceed
	Quiet         time.Duration // without a death, after which a container is not suspected any more
}

// orUsual replaces what is zero.
func (t Times) orUsual() Times {
	return Times{
		FirstPause: cmp.Or(t.FirstPause, 50*time.Millisecond),
		MaxPause:   cmp.Or(t.MaxPause, 30*time.Second),
		Health:     cmp.Or(t.Health, 10*time.Second),

		Quarantine:    cmp.Or(t.Quarantine, 30*time.Second),
		MaxQuarantine: cmp.Or(t.MaxQuarantine, time.Hour),
		Quiet:         cmp.Or(t.Quiet, 10*time.Minute),
	}
}

// States of a plugin.
const (
	Running    = "running"
	Starting   = "starting"
	BackingOff = "backing off" // until Status.NextStart or, without one, until lingering processes end
	Stopped    = "stopped"
)

// Status is a plugin's state for an operator.
type Status struct {
	Name      string    `json:"name"`
	Version   string    `json:"version"`
	State     string    `json:"state"`
	NextStart time.Time `json:"next_start,omitzero"`
	PID       int       `json:"pid,omitempty"`
	Restarts  int       `json:"restarts"`
	Lingering int       `json:"lingering,omitempty"` // killed processes that have not ended
	Isolated  int       `json:"isolated,omitempty"`  // containers that have a process of their own
	Error     string    `json:"error,omitempty"`     // why it last ended or could not start
	Lanes     bool      `json:"lanes,omitempty"`     // calls go over lanes, and not over gRPC alone
	Weaker    []string  `json:"weaker,omitempty"`    // what does not confine its process, since this host lacks it
	// Refused are the system calls that the sandbox refused, by name, and how often.
	Refused map[string]int `json:"refused,omitempty"`
}

// Plugin is a running plugin, which is started again if it dies.
type Plugin struct {
	spec     Spec
	binary   *binary // what every run executes
	manifest *wire.Manifest
	refused  *refusals
	log      zerolog.Logger
	hclog    hclog.Logger
	owner    *trouble        // of the container whose processes it has; nil: it is shared
	ctx      context.Context // until Stop
	stop     context.CancelFunc
	done     chan struct{}
	ending   sync.WaitGroup // runs whose process is dead, and private plugins
	privates atomic.Int32
	lose     atomic.Bool // see LoseNextAnswer

	mu        sync.Mutex
	current   *process
	nextStart time.Time     // not zero: of the pause under way
	changed   chan struct{} // closed and replaced at each change of what is above, of end or lingering
	end       error         // stopped
	last      string        // why a run ended or could not start
	restarts  int
	lingering int
}

var errStopped = errors.New("the plugin is stopped")

// Start starts the plugin and keeps it running until Stop. The first start must succeed; ctx is for that alone. The
// error wraps grant.ErrNotGranted if the manifest asks for more than the spec grants.
func Start(ctx context.Context, spec Spec, manifest *wire.Manifest, log zerolog.Logger) (*Plugin, error) {
	p, first, err := startFirst(ctx, spec, manifest, log)
	if err != nil {
		return nil, fmt.Errorf("start plugin %s: %w", spec.Name, err)
	}
	go p.supervise(first)
	return p, nil
}

// startFirst makes a plugin with its first run, which nobody supervises yet.
func startFirst(ctx context.Context, spec Spec, manifest *wire.Manifest, log zerolog.Logger) (*Plugin, *process, error) {
	if err := spec.Grant.Check(manifest); err != nil {
		return nil, nil, err
	}
	binary, err := openBinary(spec.Path, spec.SHA256)
	if err != nil {
		return nil, nil, err
	}
	log = log.With().Str("plugin", spec.Name).Logger()
	p := &Plugin{
		spec: spec, binary: binary, manifest: manifest, log: log, hclog: newHclog(spec.Name, log),
		refused: newRefusals(manifest.GetUses().GetSyscalls(), log), done: make(chan struct{}), changed: make(chan struct{}),
	}
	p.ctx, p.stop = context.WithCancel(context.Background())
	if p.current, err = p.startProcess(ctx); err != nil {
		binary.Close()
		return nil, nil, err
	}
	return p, p.current, nil
}

// IsCurrent reports whether Start would start the same: the binary at the path is unchanged, and so is its manifest,
// and all that this asks for is granted. Whether more is granted makes no difference to the process.
func (p *Plugin) IsCurrent(spec Spec, manifest *wire.Manifest) bool {
	own, granted := p.spec, spec.Grant
	own.Grant, spec.Grant = nil, nil
	return granted.Check(manifest) == nil && own == spec && protobuf.Equal(p.manifest, manifest) && p.binary.isCurrent()
}

// Name returns the plugin's name.
func (p *Plugin) Name() string { return p.spec.Name }

// Spec returns what the plugin was started with.
func (p *Plugin) Spec() Spec { return p.spec }

// Manifest returns the plugin's manifest, which must not be changed.
func (p *Plugin) Manifest() *wire.Manifest { return p.manifest }

// Stop ends the plugin and waits until its process is gone. Calls in it fail with lane.ErrDied.
func (p *Plugin) Stop() {
	p.stop()
	<-p.done
}

// supervise keeps the plugin running until it is stopped.
func (p *Plugin) supervise(current *process) {
	defer close(p.done)
	p.keepRunning(current)
	p.ending.Wait()
	if p.owner == nil {
		p.binary.Close()
	}
	p.change(func() { p.end = errStopped })
}

// keepRunning starts the next run after the end of each, however often, until the plugin is stopped. The pause doubles
// unless the run was a steady one, was ended from outside, or the next one is without the containers that may have
// ended it.
func (p *Plugin) keepRunning(current *process) {
	times := p.spec.Times.orUsual()
	pause := times.FirstPause
	for {
		if p.awaitEnd(current) {
			pause = times.FirstPause
		}
		p.pause(min(pause, times.MaxPause))
		p.awaitRoom()
		if p.ctx.Err() != nil {
			return
		}
		if pause = min(2*pause, times.MaxPause); current != nil && (current.isolated.Load() || current.spared()) {
			pause = times.FirstPause
		}
		current = p.restart()
	}
}

// awaitEnd waits until the run ends, or the plugin is stopped, and cleans up after it. It reports whether the run was a
// steady one. A run that did not start is nil.
func (p *Plugin) awaitEnd(run *process) (steady bool) {
	if run == nil {
		return false
	}
	select {
	case <-p.ctx.Done():
		p.change(func() { p.current = nil })
		run.Stop()
	case <-run.Dead():
		p.bury(run)
	}
	return time.Since(run.started) >= steadyAfter
}

// bury gives up a run whose process is dead. Nothing waits for it: if it was killed, it may never be gone.
func (p *Plugin) bury(run *process) {
	run.Lanes.Close()
	if p.owner != nil && !run.spared() {
		p.owner.died(p)
	}
	p.change(func() {
		p.current = nil
		p.last = lane.Bound(run.ending().Error())
	})
	p.ending.Go(run.Stop)
	select {
	case <-run.Gone():
	default:
		p.change(func() { p.lingering++ })
		go func() {
			<-run.Gone()
			p.change(func() { p.lingering-- })
		}()
	}
}

// pause waits before the next start, and logs why there is one.
func (p *Plugin) pause(pause time.Duration) {
	if p.ctx.Err() != nil {
		return
	}
	next := time.Now().Add(pause)
	p.change(func() { p.nextStart = next })
	p.log.Warn().Str("error", p.Status().Error).Time("next_start", next).Msg("the plugin does not run: it is started again")
	select {
	case <-p.ctx.Done():
	case <-time.After(pause):
	}
	p.change(func() { p.nextStart = time.Time{} })
}

// awaitRoom waits until few enough killed processes of the plugin are left.
func (p *Plugin) awaitRoom() {
	for {
		p.mu.Lock()
		full, changed := p.lingering >= maxLingering, p.changed
		p.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-p.ctx.Done():
			return
		case <-changed:
		}
	}
}

// restart starts the next run; nil if that failed.
func (p *Plugin) restart() *process {
	p.change(func() { p.restarts++ })
	return p.begin()
}

// begin starts a run; nil if that failed.
func (p *Plugin) begin() *process {
	next, err := p.startProcess(p.ctx)
	p.change(func() {
		p.current = next
		if err != nil {
			p.last = lane.Bound(err.Error())
		}
	})
	return next
}

// change changes the state and wakes those that wait for that.
func (p *Plugin) change(state func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state()
	close(p.changed)
	p.changed = make(chan struct{})
}

// running returns the current process, and waits for one while the plugin restarts. It does not wait for a start that
// comes after ctx's deadline.
func (p *Plugin) running(ctx context.Context) (*process, error) {
	for {
		current, changed, err := p.look(ctx)
		if current != nil || err != nil {
			return current, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the plugin to restart: %w", context.Cause(ctx))
		}
	}
}

// look returns the current process, or else what is closed when there may be another, or why that is of no use.
func (p *Plugin) look(ctx context.Context) (*process, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	deadline, limited := ctx.Deadline()
	switch {
	case p.end != nil:
		return nil, nil, p.end
	case p.current != nil && !p.current.IsDead():
		return p.current, nil, nil
	case p.current == nil && p.lingering >= maxLingering:
		return nil, nil, fmt.Errorf("%w: %s", ErrDown, p.reason())
	case limited && p.nextStart.After(deadline):
		return nil, nil, fmt.Errorf("%w until %s: %s", ErrDown, p.nextStart.Format(time.TimeOnly), p.reason())
	}
	return nil, p.changed, nil
}

// reason says why the plugin last ended, or is not started. The plugin is locked.
func (p *Plugin) reason() string {
	if p.lingering < maxLingering {
		return p.last
	}
	return fmt.Sprintf("%s; %d killed processes cannot end, since threads of theirs hang in the kernel: it is started when one has ended",
		p.last, p.lingering)
}

// Status returns the plugin's state.
func (p *Plugin) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Name: p.spec.Name, Version: p.manifest.GetVersion(), State: Starting,
		NextStart: p.nextStart, Restarts: p.restarts, Lingering: p.lingering, Isolated: int(p.privates.Load()), Error: p.reason(),
		Refused: p.refused.list(),
	}
	switch {
	case p.end != nil:
		s.State = Stopped
	case p.current != nil && !p.current.IsDead():
		s.State, s.PID, s.Weaker, s.Version = Running, p.current.PID, p.current.Weaker, p.current.version
		s.Lanes = p.current.Lanes.Accepted()
	case !p.nextStart.IsZero() || p.lingering >= maxLingering:
		s.State = BackingOff
	}
	return s
}

func (p *Plugin) startProcess(ctx context.Context) (*process, error) {
	run, err := p.newProcess(ctx)
	if run != nil {
		run.private = p.owner != nil
	}
	return run, err
}
