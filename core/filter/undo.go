package filter

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
)

// undo turns a profile that OCI has made into its base, as far as it tells, and gives the calls that must still be
// notified. Plugins took these whole, so that the profile does not have what its base said of them. Where the rest is
// allowed, they are too.
func (p *profile) undo() (still []string, err error) {
	rules, err := p.rules()
	if err != nil {
		return nil, err
	}
	notified := map[string][]match{}
	for i, r := range rules {
		if r.Action != actNotify {
			continue
		}
		m, err := matchOf(r.Args)
		if err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		for _, name := range r.Names {
			notified[name] = append(notified[name], m)
		}
	}
	rules = slices.DeleteFunc(rules, func(r *rule) bool { return r.Action == actNotify })
	p.Syscalls = join(rules, notified)
	p.ListenerPath = ""
	if i := slices.Index(p.Flags, flagWaitKillable); i >= 0 {
		p.Flags = slices.Delete(p.Flags, i, i+1)
		p.raw.set("flags", p.Flags)
	}
	// This list is as good as none (see addWaitKillable), and older runtimes refuse any.
	if slices.Equal(p.Flags, []string{flagSpecAllow}) {
		p.Flags = nil
		p.raw.remove("flags")
	}
	for name, matches := range notified { // collect orders them
		if p.DefaultAction != actAllow && whole(matches) {
			still = append(still, name)
		}
	}
	return still, nil
}

// matchOf gives the match of a rule that notifies; empty: it notifies every call.
func matchOf(args []comparison) (match, error) {
	var m match
	for _, a := range args {
		switch a.Op {
		case opEqual:
			m = append(m, condition{a.Index, math.MaxUint64, a.Value})
		case opMaskedEqual:
			m = append(m, condition{a.Index, a.Value, a.ValueTwo})
		default:
			return nil, fmt.Errorf("it notifies by %s, which intercede does not write: give a profile that has only rules of `intercede profile` for that", a.Op)
		}
	}
	return m, nil
}

// whole reports whether the matches leave nothing over of a call.
func whole(matches []match) bool {
	if slices.ContainsFunc(matches, func(m match) bool { return len(m) == 0 }) {
		return true
	}
	left, err := rest(ordered(slices.Clone(matches)))
	return err == nil && len(left) == 0
}

// join gives the rules, where those for the rest of notified calls are one without conditions again; see rule.outside.
func join(rules []*rule, notified map[string][]match) []json.RawMessage {
	var texts []json.RawMessage
	for len(rules) > 0 {
		r := rules[0]
		n := r.restLength(rules, notified)
		if n == 0 {
			texts, rules = append(texts, r.text), rules[1:]
			continue
		}
		joined := maps.Clone(r.raw)
		joined.remove("args")
		texts, rules = append(texts, joined.text()), rules[n:]
	}
	return texts
}

// restLength is how many of the rules, of which r is the first, are what outside made of one; 0: none.
func (r *rule) restLength(rules []*rule, notified map[string][]match) int {
	if len(r.Names) == 0 || len(r.Args) != 1 {
		return 0
	}
	matches := ordered(slices.Clone(notified[r.Names[0]]))
	for _, name := range r.Names {
		if !slices.EqualFunc(ordered(slices.Clone(notified[name])), matches, slices.Equal) {
			return 0
		}
	}
	if len(matches) == 0 || whole(matches) {
		return 0
	}
	comparisons, err := rest(matches)
	if err != nil || len(comparisons) > len(rules) {
		return 0
	}
	for i, c := range comparisons {
		if !slices.Equal(rules[i].Args, []comparison{c}) || !rules[i].differsInArgs(r) {
			return 0
		}
	}
	return len(comparisons)
}

// differsInArgs reports whether all but the arguments is equal.
func (r *rule) differsInArgs(other *rule) bool {
	a, b := maps.Clone(r.raw), maps.Clone(other.raw)
	a.remove("args")
	b.remove("args")
	return string(a.text()) == string(b.text())
}
