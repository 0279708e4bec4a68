package daemon

import (
	"context"
	"fmt"

	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/policy"
	"github.com/rs/zerolog"
)

// Explain returns what the described container would get. A plugin whose settings the container's annotations change is
// started and asked about them, as Try does: what it refuses is ignored when a container is attached.
func (s *Setup) Explain(ctx context.Context, d policy.Description) (*policy.Effective, error) {
	effective := s.Policy.For(d)
	for i, p := range s.Policy.Plugins {
		state := effective.Plugin(p.Name)
		if state == nil || state.Fallback() == "" {
			continue
		}
		refusal, err := s.refusalOf(ctx, i, state.SettingsJSON())
		if err != nil {
			return nil, fmt.Errorf("ask the plugin %s about the settings of annotations: %w", p.Name, err)
		}
		if refusal != "" {
			effective.FallBack(p.Name, refusal)
		}
	}
	return effective, nil
}

// refusalOf returns why the plugin refuses these settings; empty: it takes them.
func (s *Setup) refusalOf(ctx context.Context, plugin int, settings string) (string, error) {
	started, err := launcher.Start(ctx, s.spec(plugin), s.installed[plugin], zerolog.Nop())
	if err != nil {
		return "", err
	}
	defer started.Stop()
	findings, err := started.Validate(ctx, settings)
	if err != nil {
		return "", err
	}
	for _, f := range findings {
		if !f.GetWarning() {
			return f.GetKey() + ": " + f.GetText(), nil
		}
	}
	return "", nil
}
