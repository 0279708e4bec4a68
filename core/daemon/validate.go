package daemon

import (
	"context"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy/config"
)

// validate asks a running plugin what is wrong with the settings that the config gives it.
func (s *Setup) validate(ctx context.Context, plugin *launcher.Plugin) config.Problems {
	var problems config.Problems
	for _, v := range s.Policy.Variants() {
		if v.Plugin != plugin.Name() {
			continue
		}
		findings, err := plugin.Validate(ctx, v.SettingsJSON)
		if err != nil {
			return append(problems, config.Problem{File: s.path, Key: "plugins." + v.Plugin, Message: err.Error()})
		}
		for _, f := range findings {
			problems = problems.With(v.Problem(f))
		}
	}
	return problems
}

// validateAll asks all plugins of the setup, which run. The faults keep it from being in force; warnings are logged.
func (e *Engine) validateAll(ctx context.Context, setup *Setup, plugins []*sharedPlugin) error {
	found := make([]config.Problems, len(plugins))
	concurrently(len(plugins), func(i int) { found[i] = setup.validate(ctx, plugins[i].Plugin) })
	all := setup.warnOfMetrics()
	for _, problems := range found {
		all = append(all, problems...)
	}
	all.Sort()
	faults, warnings := all.Split()
	if setup.NoWarning {
		warnings = nil
	}
	for _, w := range warnings {
		e.log.Warn().Str("file", w.File).Int("line", w.Line).Str("key", w.Key).Msg("config: " + w.Message)
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}
