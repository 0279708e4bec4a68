package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/internal/wire"
	"github.com/rs/zerolog"
)

// journalSlots is room for the calls in flight of a daemon with as many threads as there may be.
const journalSlots = 8192

// Remains is what a daemon before this one has left.
type Remains struct {
	records []*record.Record
	bad     bool // a record cannot be read
	calls   []*journal.Slot
	files   []keep.Descriptor
}

// OpenState opens the folder where a daemon leaves what the next one needs, and finds what one before has left there
// and in the descriptor store. One daemon at a time may have it open. What cannot be read is said in the log.
func OpenState(folder string, store broker.Store, log zerolog.Logger) (broker.State, *Remains, error) {
	remains := &Remains{}
	records, left, errs := record.Open(filepath.Join(folder, "containers"))
	if records == nil {
		return broker.State{}, nil, errors.Join(errs...)
	}
	for _, err := range errs {
		log.Error().Err(err).Msg("a container is not adopted")
	}
	calls, unfinished, err := journal.Open(filepath.Join(folder, "journal"), journalSlots)
	if calls == nil {
		return broker.State{}, nil, err
	}
	if err != nil {
		log.Error().Err(err).Msg("calls of containers that another version of the daemon had received are not answered")
	}
	remains.records, remains.bad, remains.calls = left, len(errs) > 0, unfinished
	return broker.State{Journal: calls, Records: records, Store: store}, remains, nil
}

// checkKept returns an error if the descriptor store has containers and the folder tells of none: the daemon that left
// them has had another folder, and all of them would be lost.
func (r *Remains) checkKept(folder string, inherited []keep.Descriptor) error {
	if len(r.records) > 0 || r.bad {
		return nil
	}
	for _, d := range inherited {
		if broker.IsContainers(d.Name) {
			return fmt.Errorf("the descriptor store has containers (%q), of which %q tells nothing: "+
				"give [broker] control the path that it had before, or end the containers and stop the unit", d.Name, folder)
		}
	}
	return nil
}

// Adopt goes on where the daemon before has ended: with its containers, as they were, and its calls. ctx is for the
// start of their plugins.
func (e *Engine) Adopt(ctx context.Context, setup *Setup, remains *Remains) {
	adopted := &adopter{engine: e, setup: setup, plugins: map[pluginKey]*sharedPlugin{}}
	containers := e.Broker.Sort(remains.records, remains.files)
	for i := range containers {
		containers[i].Assignment = adopted.assign(ctx, containers[i].Record)
	}
	generation, err := adopted.generation()
	if err != nil {
		e.log.Error().Err(err).Msg("the calls of adopted containers are left to the kernel")
	}
	e.Broker.Adopt(ctx, generation, containers, remains.calls)
}

// adopter finds the plugins of adopted containers.
type adopter struct {
	engine    *Engine
	setup     *Setup
	plugins   map[pluginKey]*sharedPlugin // nil: it cannot be had
	manifests []*wire.Manifest            // of those that can
}

// pluginKey is what a record names a plugin by.
type pluginKey struct {
	name, path, sha256 string
	memory             int64
	grant              string // as JSON
}

func keyOf(p *record.Plugin) pluginKey {
	granted, _ := json.Marshal(p.Grant) // made of what JSON has
	return pluginKey{p.Name, p.Path, p.SHA256, p.MemoryMax, string(granted)}
}

// assign gives a container what its record says.
func (a *adopter) assign(ctx context.Context, r *record.Record) broker.Assignment {
	var bindings []broker.Binding
	for _, p := range r.Plugins {
		plugin := a.plugin(ctx, &p)
		if plugin == nil {
			a.engine.log.Error().Str("container", r.Container.Claim.ID).Str("plugin", p.Name).
				Msg("the plugin cannot be had any more: the container's calls are left to the kernel")
			continue
		}
		bindings = append(bindings, broker.Binding{
			Plugin: plugin.Plugin, Settings: string(p.Settings), Deadline: p.Deadline, OnFailure: p.Verdict(), Revoked: p.Revoked, Withheld: p.Withheld,
		})
	}
	assignment := broker.Assignment{Bindings: a.engine.share(bindings)}
	if number := r.Number; len(r.Effective) > 0 {
		assignment.Explain = func() *policy.Effective { return a.engine.explainRecord(number) }
	}
	return assignment
}

// explainRecord explains what an adopted container has, as the daemon did that it came to; nil if that is not known.
func (e *Engine) explainRecord(number uint64) *policy.Effective {
	r, err := e.records.Read(number)
	if err != nil {
		return nil
	}
	effective := &policy.Effective{}
	if err := json.Unmarshal(r.Effective, effective); err != nil {
		return nil
	}
	return effective
}

// plugin finds the running plugin, or starts it; nil: it cannot be had.
func (a *adopter) plugin(ctx context.Context, recorded *record.Plugin) *sharedPlugin {
	key := keyOf(recorded)
	if p, known := a.plugins[key]; known {
		return p
	}
	p, err := a.start(ctx, recorded)
	if err != nil {
		a.engine.log.Error().Err(err).Str("plugin", recorded.Name).Msg("a plugin of adopted containers")
	} else {
		a.manifests = append(a.manifests, p.Manifest())
	}
	a.plugins[key] = p
	return p
}

func (a *adopter) start(ctx context.Context, recorded *record.Plugin) (*sharedPlugin, error) {
	spec := launcher.Spec{
		Name: recorded.Name, Path: recorded.Path, SHA256: recorded.SHA256, Grant: recorded.Grant,
		Limits: sandbox.Limits{Memory: recorded.MemoryMax}, Rooms: a.engine.rooms,
	}
	for i, p := range a.setup.Policy.Plugins {
		if p.Name == spec.Name && p.Path == spec.Path && p.SHA256 == spec.SHA256 {
			spec.Grant = p.Grant // which the manifest that the setup has read was held against
			return a.engine.acquirePlugin(ctx, spec, a.setup.installed[i])
		}
	}
	manifest, err := readLeftManifest(ctx, spec)
	if err != nil {
		return nil, err
	}
	return a.engine.acquirePlugin(ctx, spec, manifest)
}

// readLeftManifest reads the manifest of a plugin that the config does not have any more.
func readLeftManifest(ctx context.Context, spec launcher.Spec) (*wire.Manifest, error) {
	if _, err := os.Stat(spec.Path); err != nil {
		return nil, fmt.Errorf("the config does not have it any more, nor the disk: %w", err)
	}
	return launcher.ReadManifest(ctx, spec)
}

// generation is that of the adopted containers. It holds their plugins.
func (a *adopter) generation() (*broker.Generation, error) {
	var held []*sharedPlugin
	for _, p := range a.plugins {
		if p != nil {
			held = append(held, p)
		}
	}
	routes, err := filter.Resolve(a.manifests)
	g := a.engine.newGeneration(a.setup, routes)
	g.Released = func() { a.engine.release(slices.Clone(held)) }
	return g, err
}
