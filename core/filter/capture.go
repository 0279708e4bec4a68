package filter

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/wire"
)

// capture is what leaves the kernel of one system call, for all plugins that take it.
type capture struct {
	name    string
	plugins []string
	matches []match // none: every call
	numbers map[architecture]int32
	// What the plugins say of calls that are not native: see multiplex.go.
	compat []wire.Compat
	// Of a multiplexer that no plugin takes itself: the calls that it stands for and that are refused, by what says
	// which one, the first argument and mask.
	behind map[uint32]string
	mask   uint32
	whole  bool // the others are notified too: see notifyWhole
}

// match holds when all its conditions, in the order of their arguments, hold.
type match []condition

// condition holds when args[arg] & mask == value.
type condition struct {
	arg         uint32
	mask, value uint64
}

// collect joins what the manifests take, ordered by name.
func collect(manifests []*wire.Manifest) ([]*capture, error) {
	if len(architectures) == 0 {
		return nil, fmt.Errorf("seccomp filter: no support for %s: want amd64 or arm64", runtime.GOARCH)
	}
	captures := map[string]*capture{}
	var faults []error
	for _, m := range manifests {
		for _, s := range m.GetSyscalls() {
			if err := add(captures, m.GetName(), s); err != nil {
				faults = append(faults, fmt.Errorf("plugin %s: syscall %s: %w", m.GetName(), s.GetName(), err))
			}
		}
	}
	faults = append(faults, multiplex(captures))
	ordered := slices.SortedFunc(maps.Values(captures), func(a, b *capture) int { return strings.Compare(a.name, b.name) })
	return ordered, errors.Join(faults...)
}

// add adds what one plugin takes of a call.
func add(captures map[string]*capture, plugin string, s *wire.Syscall) error {
	matches := normalize(s.GetWhen())
	if c, taken := captures[s.GetName()]; taken {
		matches = union(c.matches, matches)
	} else {
		numbers, err := resolve(s.GetName())
		if err != nil {
			return err
		}
		captures[s.GetName()] = &capture{name: s.GetName(), numbers: numbers}
	}
	c := captures[s.GetName()]
	c.plugins, c.compat, c.matches = append(c.plugins, plugin), append(c.compat, s.GetCompat()), matches
	return c.checkNative(s.GetCompat())
}

// resolve gives a call's number on each architecture that has it.
func resolve(name string) (map[architecture]int32, error) {
	numbers := map[architecture]int32{}
	for _, a := range architectures {
		if nr, ok := a.number(name); ok {
			numbers[a] = nr
		}
	}
	if len(numbers) == 0 {
		return nil, unknown(name)
	}
	return numbers, nil
}

// normalize brings equal sets of matches to one form; a match that always holds leaves none.
func normalize(when []*wire.Match) []match {
	var matches []match
	for _, w := range when {
		var m match
		for _, c := range w.GetAll() {
			if c.GetMask() != 0 {
				m = append(m, condition{c.GetArg(), c.GetMask(), c.GetValue()})
			}
		}
		if len(m) == 0 {
			return nil
		}
		slices.SortFunc(m, func(a, b condition) int { return cmp.Compare(a.arg, b.arg) })
		matches = append(matches, m)
	}
	return ordered(matches)
}

// union joins the matches of two plugins.
func union(a, b []match) []match {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	return ordered(slices.Concat(a, b))
}

// ordered brings a union of matches to one form, without those that imply another.
func ordered(matches []match) []match {
	slices.SortFunc(matches, compareMatches)
	var union []match
	for _, m := range matches {
		if slices.ContainsFunc(union, m.implies) {
			continue
		}
		union = slices.DeleteFunc(union, func(other match) bool { return other.implies(m) })
		union = append(union, m)
	}
	return union
}

// implies reports whether other holds wherever m does.
func (m match) implies(other match) bool {
	return !slices.ContainsFunc(other, func(c condition) bool {
		return !slices.ContainsFunc(m, func(own condition) bool { return own.arg == c.arg && own.implies(c) })
	})
}

func compareMatches(a, b match) int {
	return slices.CompareFunc(a, b, func(x, y condition) int {
		return cmp.Or(cmp.Compare(x.arg, y.arg), cmp.Compare(x.mask, y.mask), cmp.Compare(x.value, y.value))
	})
}

// refuse says which captures are of a reserved call.
func refuse(captures []*capture, reserved []string, reason string) error {
	var faults []error
	for _, c := range captures {
		if slices.Contains(reserved, c.name) {
			faults = append(faults, fmt.Errorf("plugin %s: syscall %s cannot be intercepted: %s", strings.Join(c.plugins, ", "), c.name, reason))
		}
	}
	return errors.Join(faults...)
}
