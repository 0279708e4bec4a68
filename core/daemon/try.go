package daemon

import (
	"context"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/rs/zerolog"
)

// TryPlugins starts each plugin of the setup as the daemon would, and stops it. The problems are what a manifest does
// not tell: a plugin that speaks another version of the protocol, or that ends before it serves.
func (s *Setup) TryPlugins(ctx context.Context) config.Problems {
	plugins := s.Policy.Plugins
	errs := make([]error, len(plugins))
	concurrently(len(plugins), func(i int) {
		started, err := launcher.Start(ctx, s.spec(i), s.installed[i], zerolog.Nop())
		if err == nil {
			started.Stop()
		}
		errs[i] = err
	})
	var problems config.Problems
	for i, err := range errs {
		if err != nil {
			problems = append(problems, config.Problem{File: s.path, Key: "plugins." + plugins[i].Name, Message: err.Error()})
		}
	}
	return problems
}
