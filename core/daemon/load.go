// Package daemon puts the parts together: from a config file to running plugins, a broker, and the sockets that
// runtimes and operators connect to.
package daemon

import (
	"context"
	"sync"

	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// Setup is a config that was checked as a whole: the file, the plugins' binaries and manifests, the settings.
type Setup struct {
	Policy *policy.Policy
	// Manifests are those of Policy.Plugins, in their order, without the syscalls that the settings of every container
	// leave switched off.
	Manifests []*wire.Manifest
	installed []*wire.Manifest // the same, as the binaries print them
	routes    filter.Routes
}

// Load reads the config at path, reads the manifests of the plugins that some container may have by running their
// binaries, and checks all of it. It starts nothing, and returns all problems at once.
func Load(ctx context.Context, path string, options config.Options) (*Setup, config.Problems) {
	doc, problems := config.Load(path, options)
	if doc == nil {
		return nil, problems
	}
	manifests := readManifests(ctx, doc)
	resolved, more := policy.Resolve(doc, manifests)
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, problems
	}
	setup := &Setup{Policy: resolved}
	for _, p := range resolved.Plugins {
		manifest := manifests.Read[p.Name]
		setup.installed = append(setup.installed, manifest)
		setup.Manifests = append(setup.Manifests, wire.Narrow(manifest, p.WidestJSON))
	}
	var err error
	if setup.routes, err = filter.Resolve(setup.Manifests); err != nil {
		return nil, config.Problems{{File: path, Key: "plugins", Message: err.Error()}}
	}
	return setup, nil
}

// readManifests runs the binaries of the plugins that some container may have, all at once.
func readManifests(ctx context.Context, doc *config.Document) policy.Manifests {
	var mu sync.Mutex
	var reading sync.WaitGroup
	manifests := policy.Manifests{
		Read: map[string]*wire.Manifest{}, Unread: map[string]error{}, Installed: installedNames(doc.Broker.PluginDir),
	}
	for _, p := range doc.Plugins {
		if !p.Used {
			continue
		}
		reading.Go(func() {
			manifest, err := launcher.ReadManifest(ctx, launcher.Spec{Name: p.Name, Path: p.Path, SHA256: p.SHA256})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				manifests.Unread[p.Name] = err
				return
			}
			manifests.Read[p.Name] = manifest
		})
	}
	reading.Wait()
	return manifests
}
