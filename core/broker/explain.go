package broker

import (
	"slices"
	"strings"

	"github.com/intercede/intercede/core/policy"
)

// ContainerPolicy is what an attached container got of its policy, for an operator.
type ContainerPolicy struct {
	*policy.Effective
	// Privileged says that the container has no user namespace of its own: its calls are left to the kernel.
	Privileged bool `json:"privileged"`
}

// Policies are those of the attached containers with this id, or else of those whose ids begin so; the oldest first.
func (b *Broker) Policies(id string) []ContainerPolicy {
	attached := b.attachmentsOf(func(known string) bool { return known == id })
	if len(attached) == 0 && id != "" {
		attached = b.attachmentsOf(func(known string) bool { return strings.HasPrefix(known, id) })
	}
	list := []ContainerPolicy{}
	for _, a := range attached {
		if effective := a.explain(); effective != nil {
			list = append(list, ContainerPolicy{effective, a.container.Privileged})
		}
	}
	return list
}

// explain says why the container has what it has; nil if that is not known, or not yet.
func (a *attachment) explain() *policy.Effective {
	assignment := a.assigned()
	if assignment.Explain == nil {
		return nil
	}
	effective := assignment.Explain()
	for _, p := range a.plugins {
		if p.fellBack != nil {
			effective.FallBack(p.binding.Plugin.Name(), p.fellBack.Error())
		}
	}
	return effective
}

func (b *Broker) attachmentsOf(wanted func(id string) bool) (found []*attachment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.containers {
		if wanted(a.container.ID) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(x, y *attachment) int { return x.attached.Compare(y.attached) })
	return found
}
