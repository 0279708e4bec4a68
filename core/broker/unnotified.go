package broker

import (
	"slices"

	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/protobuf/proto"
)

// A container's filter is loaded when it begins, and never changes. So a system call that it does not notify stays with
// the kernel, whatever policy the container gets later. A listener does not tell what its filter notifies, and neither
// does the runtime: all that is known is what the policy took that the container began with.

// takenBy returns what the binding's plugin takes with the binding's settings.
func takenBy(b *Binding) []*wire.Syscall {
	return wire.Narrow(b.Plugin.Manifest(), b.Settings).GetSyscalls()
}

// filterOf returns what the container's filter notifies at least, for records: what was taken by the terms that it
// began with.
func (t *terms) filterOf() [][]byte {
	if t.filter != nil {
		return t.filter
	}
	filter := [][]byte{}
	for i := range t.plugins {
		for _, s := range takenBy(t.plugins[i].binding) {
			rule, _ := (&wire.Syscall{Name: s.GetName(), When: s.GetWhen()}).MarshalVT() // has no way to fail
			filter = append(filter, rule)
		}
	}
	return filter
}

// unnotified returns the names of what the container's plugins take that its filter may not notify, as far as is known;
// none, if the container has the policy that it began with.
func (t *terms) unnotified() []string {
	if t.filter == nil {
		return nil
	}
	var began []*wire.Syscall
	for _, rule := range t.filter {
		s := &wire.Syscall{}
		if s.UnmarshalVT(rule) == nil {
			began = append(began, s)
		}
	}
	var names []string
	for i := range t.plugins {
		if p := &t.plugins[i]; !p.binding.Revoked {
			names = append(names, missing(takenBy(p.binding), began)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// missing returns the names of what is wanted and not there, or not under all conditions.
func missing(wanted, there []*wire.Syscall) (names []string) {
	for _, w := range wanted {
		has := slices.ContainsFunc(there, func(s *wire.Syscall) bool { return s.GetName() == w.GetName() && notifiesAll(s.GetWhen(), w.GetWhen()) })
		if !has {
			names = append(names, w.GetName())
		}
	}
	return names
}

// notifiesAll reports whether what matches wanted matches there too. Without a match everything does.
func notifiesAll(there, wanted []*wire.Match) bool {
	if len(there) == 0 || len(wanted) == 0 {
		return len(there) == 0
	}
	for _, w := range wanted {
		if !slices.ContainsFunc(there, func(m *wire.Match) bool { return sameConditions(m, w) }) {
			return false
		}
	}
	return true
}

func sameConditions(m, w *wire.Match) bool {
	return slices.EqualFunc(m.GetAll(), w.GetAll(), func(x, y *wire.Condition) bool { return proto.Equal(x, y) })
}
