package daemon

import (
	"maps"
	"slices"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/internal/wire"
)

// For is what the described container gets, with the manifests of the plugins that it has enabled, without the syscalls
// that its settings leave switched off. Without such a plugin nothing of the container's calls needs to be notified.
func (s *Setup) For(c policy.Container) (*policy.Effective, []*wire.Manifest) {
	effective := s.Policy.For(c)
	var manifests []*wire.Manifest
	for i, p := range s.Policy.Plugins {
		if state := effective.Plugin(p.Name); state != nil {
			manifests = append(manifests, wire.Narrow(s.installed[i], state.SettingsJSON()))
		}
	}
	return effective, manifests
}

// choose says which of the uses a container has, and with which settings.
func (e *Engine) choose(p *policy.Policy, uses []broker.Use, c *container.Container) broker.Choice {
	explain := func() *policy.Effective { return p.For(describe(c)) }
	effective := explain()
	choice := broker.Choice{Explain: explain}
	for _, use := range uses {
		if state := effective.Plugin(use.Plugin.Name()); state != nil {
			use.Settings, use.Fallback = state.SettingsJSON(), state.Fallback()
			choice.Uses = append(choice.Uses, use)
		}
	}
	choice.Uses = e.share(choice.Uses)
	for _, a := range effective.Ignored {
		event := e.log.Debug()
		if a.Bad {
			event = e.log.Warn()
		}
		event.Str("container", c.ID).Str("annotation", a.Name).Str("reason", a.Reason).Msg("annotation ignored")
	}
	return choice
}

// share gives the uses that the container before has if they are the same, as most containers' are.
func (e *Engine) share(uses []broker.Use) []broker.Use {
	if last := e.lastUses.Load(); last != nil && slices.Equal(*last, uses) {
		return *last
	}
	e.lastUses.Store(&uses)
	return uses
}

func describe(c *container.Container) policy.Container {
	return policy.Container{
		ID: c.ID, Runtime: c.Runtime, Name: c.Name, Cookie: c.Cookie, Annotations: c.Annotations, PeerUID: c.PeerUID,
		Cgroups: slices.Compact(slices.Sorted(maps.Values(c.Cgroups()))),
	}
}
