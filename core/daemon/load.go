// Package daemon puts the parts together: from a config file to running plugins, a broker, and the sockets that
// runtimes and operators connect to.
package daemon

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"
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
	GRPC      bool             // all calls go over gRPC, also those of plugins that have lanes
	NoWarning bool             // nobody is warned of what is dangerous in the config: it is the program's own
	installed []*wire.Manifest // the same, as the binaries print them
	path      string           // of the config
	doc       *config.Document
	routes    filter.Routes
}

// Load reads the config at path, reads the manifests of the plugins that some container may have by running their
// binaries, and checks all of it. It starts nothing, and returns all problems at once. The context's log (zerolog) says
// what takes long.
func Load(ctx context.Context, path string, options config.Options) (*Setup, config.Problems) {
	return load(ctx, path, options, func(string) launcher.KnownManifests { return launcher.KnownManifests{} })
}

// LoadToServe is Load for a daemon that is about to start, which does not run the binaries that a daemon before it has
// asked for their manifests.
func LoadToServe(ctx context.Context, path string, options config.Options) (*Setup, config.Problems) {
	return load(ctx, path, options, launcher.KnownIn)
}

// load has known find the manifests that are kept in the folder of the daemon's sockets.
func load(ctx context.Context, path string, options config.Options, known func(folder string) launcher.KnownManifests) (*Setup, config.Problems) {
	doc, problems := config.Load(path, options)
	if doc == nil {
		return nil, problems
	}
	manifests := readManifests(ctx, doc, known(stateFolder(doc.Broker.Control)))
	resolved, more := policy.Resolve(doc, manifests)
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, problems
	}
	setup := &Setup{Policy: resolved, path: path, doc: doc}
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

// stateFolder is where a daemon with that control socket leaves what the next one needs.
func stateFolder(control string) string { return filepath.Dir(control) }

// readManifests runs the binaries of the plugins that some container may have, but for known ones.
func readManifests(ctx context.Context, doc *config.Document, known launcher.KnownManifests) policy.Manifests {
	used := slices.DeleteFunc(slices.Clone(doc.Plugins), func(p config.Plugin) bool { return !p.Used })
	var mu sync.Mutex
	manifests := policy.Manifests{
		Read: map[string]*wire.Manifest{}, Unread: map[string]error{}, Installed: installedNames(doc.Broker.PluginDir),
	}
	concurrently(len(used), func(i int) {
		p := used[i]
		manifest, err := known.Read(ctx, launcher.Spec{Name: p.Name, Path: p.Path, SHA256: p.SHA256})
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			manifests.Unread[p.Name] = err
			return
		}
		manifests.Read[p.Name] = manifest
	})
	return manifests
}

// concurrently calls fn with each number below n, for no more of them at once than there are processors: each starts a
// program, which many at once would keep from getting ready in time.
func concurrently(n int, fn func(i int)) {
	var calls sync.WaitGroup
	free := make(chan struct{}, runtime.NumCPU())
	for i := range n {
		free <- struct{}{}
		calls.Go(func() {
			defer func() { <-free }()
			fn(i)
		})
	}
	calls.Wait()
}
