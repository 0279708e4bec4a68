package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// group are calls with the same matches.
type group struct {
	names   []string
	matches []match // none: every call
}

// groupByMatches joins the captures with the same matches, in the order of their first names.
func groupByMatches(captures []*capture) []*group {
	var groups []*group
	for _, c := range captures {
		i := slices.IndexFunc(groups, func(g *group) bool {
			return slices.EqualFunc(g.matches, c.matches, func(a, b match) bool { return slices.Equal(a, b) })
		})
		if i < 0 {
			groups = append(groups, &group{[]string{c.name}, c.matches})
			continue
		}
		groups[i].names = append(groups[i].names, c.name)
	}
	return groups
}

// notifyRules gives the rules that notify.
func notifyRules(groups []*group) ([]json.RawMessage, error) {
	rules := []json.RawMessage{} // a list in JSON also when there are none
	for _, g := range groups {
		if err := checkRules(g.matches); err != nil {
			return nil, fmt.Errorf("syscall %s: %w", strings.Join(g.names, ", "), err)
		}
		if len(g.matches) == 0 {
			rules = append(rules, notifyRule(g.names, nil))
		}
		for _, m := range g.matches {
			rules = append(rules, notifyRule(g.names, m.comparisons()))
		}
	}
	return rules, nil
}

func notifyRule(names []string, args []comparison) json.RawMessage {
	r := object{}
	r.set("names", names)
	r.set("action", actNotify)
	if args != nil {
		r.set("args", args)
	}
	return r.text()
}

// rule is one of a base profile's. Includes and Excludes are of containers-common: the rule counts only for containers
// that have all capabilities of the first and none of the second.
type rule struct {
	Name     string          `json:"name"` // older profiles
	Names    []string        `json:"names"`
	Action   string          `json:"action"`
	ErrnoRet json.RawMessage `json:"errnoRet"`
	Errno    string          `json:"errno"`
	Args     []comparison    `json:"args"`
	Includes limits          `json:"includes"`
	Excludes limits          `json:"excludes"`

	raw  object
	text json.RawMessage
}

type limits struct {
	Caps   []string `json:"caps"`
	Arches []string `json:"arches"`
}

func (l limits) none() bool { return len(l.Caps)+len(l.Arches) == 0 }

func readRule(text json.RawMessage) (*rule, error) {
	r := &rule{text: text}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &r.raw); err != nil {
		return nil, err
	}
	if r.Name != "" {
		r.Names = append(r.Names, r.Name)
	}
	return r, nil
}

// rules gives the profile's rules.
func (p *profile) rules() ([]*rule, error) {
	rules := make([]*rule, len(p.Syscalls))
	for i, text := range p.Syscalls {
		var err error
		if rules[i], err = readRule(text); err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
	}
	return rules, nil
}

// refuseNotify returns an error if a rule notifies.
func refuseNotify(rules []*rule) error {
	for i, r := range rules {
		if r.Action == actNotify {
			return fmt.Errorf("syscalls[%d]: %s: its action is SCMP_ACT_NOTIFY: a container has one listener, and that is intercede's", i, strings.Join(r.Names, ", "))
		}
	}
	return nil
}

// outside gives the profile's rules for what the groups leave over.
func (p *profile) outside(groups []*group) ([]json.RawMessage, error) {
	rules, err := p.rules()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(refuseNotify(rules), checkPrecedence(rules, groups)); err != nil {
		return nil, err
	}
	var texts []json.RawMessage
	for i, r := range rules {
		split, err := r.split(groups)
		if err != nil {
			return nil, fmt.Errorf("syscalls[%d]: %w", i, err)
		}
		texts = append(texts, split...)
	}
	return texts, nil
}

// checkPrecedence refuses rules with different actions for one call that may count at once: libseccomp prefers the
// unconditional and then the first, which a rule's conditions for the rest would change.
func checkPrecedence(rules []*rule, groups []*group) error {
	for _, g := range groups {
		if len(g.matches) == 0 {
			continue
		}
		for _, name := range g.names {
			for i, a := range rules {
				for k, b := range rules[:i] {
					if slices.Contains(a.Names, name) && slices.Contains(b.Names, name) && !a.sameAction(b) && !a.excludes(b) {
						return fmt.Errorf("syscalls[%d] and syscalls[%d] both decide %s, differently: keep one, so that it is clear what happens to calls that are not intercepted", k, i, name)
					}
				}
			}
		}
	}
	return nil
}

func (r *rule) sameAction(other *rule) bool {
	return r.Action == other.Action && string(r.ErrnoRet) == string(other.ErrnoRet) && r.Errno == other.Errno
}

// excludes reports whether no container can have both rules.
func (r *rule) excludes(other *rule) bool {
	return len(common(r.Includes.Caps, other.Excludes.Caps)) > 0 || len(common(r.Excludes.Caps, other.Includes.Caps)) > 0
}

// common gives what both lists have, in the order of the first.
func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// split gives the rules that say the same as r for calls of no group, and for what the groups leave over.
func (r *rule) split(groups []*group) ([]json.RawMessage, error) {
	untouched := slices.Clone(r.Names)
	var rules []json.RawMessage
	for _, g := range groups {
		names := common(g.names, r.Names)
		if len(names) == 0 {
			continue
		}
		untouched = slices.DeleteFunc(untouched, func(name string) bool { return slices.Contains(names, name) })
		outside, err := r.outside(g, names)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
		}
		rules = append(rules, outside...)
	}
	switch len(untouched) {
	case len(r.Names):
		return []json.RawMessage{r.text}, nil
	case 0:
		return rules, nil
	default:
		return append([]json.RawMessage{r.named(untouched).text()}, rules...), nil
	}
}

// outside gives r's rules for the named calls of a group where none of its matches holds.
func (r *rule) outside(g *group, names []string) ([]json.RawMessage, error) {
	if len(g.matches) == 0 {
		return nil, nil
	}
	if len(r.Args) > 0 {
		return nil, errors.New("the rule compares arguments, which cannot be joined with the plugins' conditions: give the call a rule without args")
	}
	comparisons, err := rest(g.matches)
	if err != nil {
		return nil, err
	}
	var rules []json.RawMessage
	for _, c := range comparisons {
		split := r.named(names)
		split.set("args", []comparison{c})
		rules = append(rules, split.text())
	}
	return rules, nil
}

// named is the rule for other calls.
func (r *rule) named(names []string) object {
	o := maps.Clone(r.raw)
	o.remove("name")
	o.set("names", names)
	return o
}
