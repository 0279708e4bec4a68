package daemon

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/intercede/intercede/core/auditsink"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/metrics"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/collector"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// Engine is a broker with its plugins running, which end with it.
type Engine struct {
	*broker.Broker
	log     zerolog.Logger
	rooms   *launcher.Rooms
	records *record.Folder // nil: there are none
	audit   *auditsink.Sink
	metrics *metrics.Metrics // nil: there are none

	generations atomic.Uint64 // as many as were made of configs

	mu      sync.Mutex
	plugins []*sharedPlugin

	lastBindings atomic.Pointer[[]broker.Binding] // of the last container that was attached
}

// sharedPlugin is a running plugin that generations share.
type sharedPlugin struct {
	*launcher.Plugin
	holders int // generations that have it
}

// waiting is how many threads the Go runtime may count as running Go code beyond the host's processors. Workers that
// wait in a system call count, too. Without any to spare, the runtime's monitor takes them from those that wait, looks
// every 20 µs for more, and wakes threads that find nothing to do.
const waiting = 8

// tuneRuntime is for a process that has a broker.
var tuneRuntime = sync.OnceFunc(func() {
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + waiting)
	collector.Tune()
})

// Start starts the plugins of the setup and a broker, which leaves what the next one needs in the state. ctx is for the
// start alone.
func Start(ctx context.Context, setup *Setup, state broker.State, log zerolog.Logger) (*Engine, error) {
	tuneRuntime()
	rooms := broker.MaxRooms()
	e := &Engine{log: log, rooms: launcher.NewRooms(rooms), records: state.Records, metrics: setup.newMetrics()}
	var err error
	if e.audit, err = auditsink.Open(setup.Policy.Audit); err != nil {
		return nil, err
	}
	first, err := e.start(ctx, setup)
	if err != nil {
		e.audit.Close()
		return nil, err
	}
	config := broker.Config{Generation: first, Rooms: rooms, State: state, Log: log, Audit: e.audit, Calls: e.metrics.Calls()}
	if e.Broker, err = broker.New(config); err != nil {
		first.Released()
		e.audit.Close()
		return nil, err
	}
	return e, nil
}

// Close ends the broker and the plugins, and writes the rest of the audit.
func (e *Engine) Close() {
	e.Broker.Close()
	e.audit.Close()
}

// HandOver is the broker's, and writes the rest of the audit.
func (e *Engine) HandOver() {
	e.Broker.HandOver()
	e.audit.Close()
}

// Reload gives the containers that are attached from now on the new setup. The others keep theirs, and the plugins that
// they use run on until the last of them is gone.
func (e *Engine) Reload(ctx context.Context, setup *Setup) error {
	next, err := e.start(ctx, setup)
	if err != nil {
		return err
	}
	if err := e.audit.Reopen(setup.Policy.Audit); err != nil {
		next.Released()
		return err
	}
	e.SetGeneration(next)
	return nil
}

// start starts the plugins that the setup needs and that do not run yet.
func (e *Engine) start(ctx context.Context, setup *Setup) (*broker.Generation, error) {
	plugins := make([]*sharedPlugin, len(setup.Policy.Plugins))
	errs := make([]error, len(plugins))
	concurrently(len(plugins), func(i int) { plugins[i], errs[i] = e.acquire(ctx, setup, i) })
	if err := errors.Join(errs...); err != nil {
		e.release(plugins)
		return nil, err
	}
	if err := e.validateAll(ctx, setup, plugins); err != nil {
		e.release(plugins)
		return nil, err
	}
	generation := e.newGeneration(setup, setup.routes)
	generation.Number = e.generations.Add(1)
	generation.Released = func() { e.release(plugins) }
	for i, p := range setup.Policy.Plugins {
		generation.Bindings = append(generation.Bindings, broker.Binding{
			Plugin: plugins[i].Plugin, Deadline: p.Timeout, OnFailure: p.OnFailure,
		})
	}
	generation.Assign = func(c *container.Container) broker.Assignment {
		return e.assign(setup.Policy, generation.Bindings, c)
	}
	return generation, nil
}

// newGeneration makes a generation with the limits of the setup and no plugins.
func (e *Engine) newGeneration(setup *Setup, routes filter.Routes) *broker.Generation {
	b := setup.Policy.Broker
	return &broker.Generation{
		Limits:      broker.Limits{MaxInflight: b.MaxInflight, Rate: float64(b.Rate), Burst: b.Burst},
		SyscallName: routes.Name,
	}
}

// acquire finds the running plugin for entry i of the setup, or starts it.
func (e *Engine) acquire(ctx context.Context, setup *Setup, i int) (*sharedPlugin, error) {
	spec := setup.spec(i)
	spec.Rooms = e.rooms
	return e.acquirePlugin(ctx, spec, setup.installed[i])
}

// spec is what entry i of the setup is started with.
func (s *Setup) spec(i int) launcher.Spec {
	wanted := s.Policy.Plugins[i]
	return launcher.Spec{
		Name: wanted.Name, Path: wanted.Path, SHA256: wanted.SHA256, Limits: sandbox.Limits{Memory: wanted.MemoryMax}, Grant: wanted.Grant,
		GRPC: s.GRPC,
	}
}

// acquirePlugin finds the running plugin, or starts it.
func (e *Engine) acquirePlugin(ctx context.Context, spec launcher.Spec, manifest *wire.Manifest) (*sharedPlugin, error) {
	e.mu.Lock()
	for _, p := range e.plugins {
		if p.IsCurrent(spec, manifest) {
			p.holders++
			e.mu.Unlock()
			return p, nil
		}
	}
	e.mu.Unlock()
	started, err := launcher.Start(ctx, spec, manifest, e.log)
	if err != nil {
		return nil, err
	}
	p := &sharedPlugin{Plugin: started, holders: 1}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plugins = append(e.plugins, p)
	return p, nil
}

// release gives up a generation's plugins, and stops those that no other has.
func (e *Engine) release(plugins []*sharedPlugin) {
	var unused []*sharedPlugin
	e.mu.Lock()
	for _, p := range plugins {
		if p == nil {
			continue
		}
		if p.holders--; p.holders == 0 {
			unused = append(unused, p)
			e.remove(p)
		}
	}
	e.mu.Unlock()
	var stopping sync.WaitGroup
	for _, p := range unused {
		stopping.Go(p.Stop)
	}
	stopping.Wait()
}

func (e *Engine) remove(gone *sharedPlugin) {
	e.plugins = slices.DeleteFunc(e.plugins, func(p *sharedPlugin) bool { return p == gone })
}

// Status returns the state of the plugins and of the containers.
func (e *Engine) Status() ([]launcher.Status, []broker.ContainerStatus) {
	running := e.Plugins()
	plugins := make([]launcher.Status, 0, len(running))
	for _, p := range running {
		plugins = append(plugins, p.Status())
	}
	return plugins, e.Broker.Status()
}

// Plugins returns the running plugins.
func (e *Engine) Plugins() []*launcher.Plugin {
	e.mu.Lock()
	defer e.mu.Unlock()
	var running []*launcher.Plugin
	for _, p := range e.plugins {
		running = append(running, p.Plugin)
	}
	return running
}
