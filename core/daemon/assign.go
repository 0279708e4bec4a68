package daemon

import (
	"maps"
	"slices"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/wire"
)

// ManifestsFor returns the manifests of the plugins that the described container has enabled, without the syscalls that
// its settings leave switched off. Without such a plugin none of the container's calls needs to be intercepted.
func (s *Setup) ManifestsFor(d policy.Description) []*wire.Manifest {
	effective := s.Policy.For(d)
	var manifests []*wire.Manifest
	for i, p := range s.Policy.Plugins {
		if state := effective.Plugin(p.Name); state != nil {
			manifests = append(manifests, wire.Narrow(s.installed[i], state.SettingsJSON()))
		}
	}
	return manifests
}

// ManifestsForAny returns those of Manifests whose plugins serve containers without a user namespace of their own.
func (s *Setup) ManifestsForAny() []*wire.Manifest {
	return slices.DeleteFunc(slices.Clone(s.Manifests), func(m *wire.Manifest) bool { return !m.GetAnyContainer() })
}

// assign finds which of the bindings a container gets, and with which settings.
func (e *Engine) assign(p *policy.Policy, bindings []broker.Binding, c *container.Container) broker.Assignment {
	explain := func() *policy.Effective { return p.For(describe(c)) }
	effective := explain()
	e.reportUnconfirmed(c)
	e.reportIgnored(c, effective)
	var assigned []broker.Binding
	for _, binding := range bindings {
		if state := effective.Plugin(binding.Plugin.Name()); state != nil {
			binding.Settings, binding.Fallback = state.SettingsJSON(), state.Fallback()
			assigned = append(assigned, binding)
		}
	}
	return broker.Assignment{Bindings: e.share(assigned), Explain: explain}
}

// reportUnconfirmed logs that rules and plugins do not see cgroups in which the container was found. For an ordinary
// user's containers, which are in no cgroups of version 1 that matter, it is not a warning.
func (e *Engine) reportUnconfirmed(c *container.Container) {
	unconfirmed := c.UnconfirmedCgroups()
	if len(unconfirmed) == 0 {
		return
	}
	event, why := e.log.Debug(), "linux.cgroupsPath of its config does not name them"
	if c.Trusted() {
		event = e.log.Warn()
	}
	if c.Runtime == config.RuntimeLXC {
		why = "the cgroup of its monitor is not the lxc.monitor.NAME beside them"
	}
	event.Str("container", c.ID).Strs("cgroups", slices.Compact(slices.Sorted(maps.Values(unconfirmed)))).
		Strs("controllers", slices.Sorted(maps.Keys(unconfirmed))).Msg("the container was found in cgroups of version 1 that rules and " +
		"plugins do not see, since it may have moved there itself: " + why + "; match it by name or id, or use cgroups of version 2")
}

// reportIgnored logs the container's annotations that change nothing.
func (e *Engine) reportIgnored(c *container.Container, effective *policy.Effective) {
	for _, a := range effective.Ignored {
		event := e.log.Debug()
		if a.Bad {
			event = e.log.Warn()
		}
		event.Str("container", c.ID).Str("annotation", a.Name).Str("reason", a.Reason).Msg("annotation ignored")
	}
}

// share returns the previous container's bindings if they are the same, as for most containers: so they are there once.
func (e *Engine) share(bindings []broker.Binding) []broker.Binding {
	if last := e.lastBindings.Load(); last != nil && slices.Equal(*last, bindings) {
		return *last
	}
	e.lastBindings.Store(&bindings)
	return bindings
}

func describe(c *container.Container) policy.Description {
	return policy.Description{
		ID: c.ID, Runtime: c.Runtime, Name: c.Name, Cookie: c.Cookie, Annotations: c.Annotations, PeerUID: c.PeerUID,
		Cgroups: slices.Compact(slices.Sorted(maps.Values(c.Cgroups()))),
	}
}
