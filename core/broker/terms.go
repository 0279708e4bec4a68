package broker

import (
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/policy"
)

// terms are what a container has of a policy. They never change: others take their place, while none of the container's
// calls is under way. A call looks at the terms once, after it was counted in, so that it has one policy from its
// beginning to its end.
type terms struct {
	generation *Generation
	assignment Assignment
	plugins    []boundPlugin
	routes     routes          // to plugins
	about      audit.Container // for records
	// filter is what the container's filter notifies at least, see filterOf; nil: what these terms take.
	filter [][]byte
}

// newTerms makes the terms of plugins that have the container, or have refused it.
func (a *attachment) newTerms(generation *Generation, assignment Assignment, plugins []boundPlugin, filter [][]byte) *terms {
	t := &terms{generation: generation, assignment: assignment, plugins: plugins, about: a.about, filter: filter}
	t.about.Generation = generation.Number
	t.routes = generation.routesOf(t.inForce())
	t.expectCalls(a.broker.calls)
	return t
}

// inForce returns the bindings of the plugins: the assigned ones, but for settings that a plugin has refused.
func (t *terms) inForce() []Binding {
	assigned := t.assignment.Bindings // which containers share
	for i := range t.plugins {
		if t.plugins[i].fellBack == nil {
			continue
		}
		var bindings []Binding
		for _, p := range t.plugins {
			bindings = append(bindings, *p.binding)
		}
		return bindings
	}
	return assigned
}

// name names the call, and reports whether some plugin takes it: one of the generation, or one that the container has
// of an earlier one.
func (t *terms) name(arch uint32, nr int32, first uint64) (name string, taken bool) {
	name, taken = t.generation.SyscallName(arch, nr, first)
	for i := 0; !taken && i < len(t.plugins); i++ {
		if named := t.plugins[i].named; named != nil {
			name, taken = named(arch, nr, first)
		}
	}
	return name, taken
}

// plugin returns the container's use of the plugin; nil: it has none.
func (t *terms) plugin(name string) *boundPlugin {
	for i := range t.plugins {
		if p := &t.plugins[i]; p.binding.Plugin.Name() == name {
			return p
		}
	}
	return nil
}

// longest returns how long after its beginning a call has ended: it may be shown to one plugin after the other.
func (t *terms) longest() time.Duration {
	var longest time.Duration
	for _, routes := range t.routes {
		var sum time.Duration
		for _, r := range routes {
			sum += t.plugins[r.plugin].binding.Deadline
		}
		longest = max(longest, sum)
	}
	return longest + revokeGrace
}

// explain returns why the container has what it has; nil if that is not known.
func (t *terms) explain() *policy.Effective {
	if t.assignment.Explain == nil {
		return nil
	}
	effective := t.assignment.Explain()
	if effective == nil {
		return nil
	}
	for i := range t.plugins {
		if p := &t.plugins[i]; p.fellBack != nil {
			effective.FallBack(p.binding.Plugin.Name(), p.fellBack.Error())
		}
	}
	return effective
}
