package daemon

import (
	"context"
	"fmt"

	"github.com/intercede/intercede/core/filter"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/ociruntime"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/rs/zerolog"
)

// Try finds what reading does not tell, in the order of the file: it starts each plugin of the setup as the daemon
// would, asks it about its settings, and stops it; and it executes the OCI runtime that the config names for its
// version.
func (s *Setup) Try(ctx context.Context) config.Problems {
	plugins := s.Policy.Plugins
	found := make([]config.Problems, len(plugins)+1)
	concurrently(len(found), func(i int) {
		if i == len(plugins) {
			found[i] = s.tryRuntime(ctx)
			return
		}
		started, err := launcher.Start(ctx, s.spec(i), s.installed[i], zerolog.Nop())
		if err != nil {
			found[i] = config.Problems{{File: s.path, Key: "plugins." + plugins[i].Name, Message: err.Error()}}
			return
		}
		defer started.Stop()
		found[i] = s.validate(ctx, started)
	})
	problems := append(s.warnOfMetrics(), s.warnOfProfiles()...)
	for _, some := range found {
		problems = append(problems, some...)
	}
	problems.Sort()
	return problems
}

// warnOfProfiles warns of plugins that OCI runtimes cannot be told to notify, although the containers of `intercede
// run` can.
func (s *Setup) warnOfProfiles() config.Problems {
	_, err := filter.OCI(nil, s.Manifests, filter.Listener{Path: "/"})
	if err == nil {
		return nil
	}
	const text = "containers of OCI runtimes that get all of these plugins cannot be created, and `intercede profile` fails: %v"
	return config.Problems{{File: s.path, Key: "plugins", Message: fmt.Sprintf(text, err), Warning: true}}
}

// tryRuntime finds what keeps `intercede oci-runtime` from executing the runtime that the config names. The default
// need not be there: a host may have other runtimes alone.
func (s *Setup) tryRuntime(ctx context.Context) config.Problems {
	key := config.Key{"oci_runtime", "runtime"}
	if s.doc.Place(key).Line == 0 {
		return nil
	}
	if err := ociruntime.Try(ctx, s.doc.OCIRuntime.Runtime); err != nil {
		return config.Problems{s.doc.Problem(key, err.Error())}
	}
	return nil
}
