package config

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// What delivers a container's listener: the values of match.runtime.
const (
	RuntimeOCI = "oci" // an OCI runtime
	RuntimeLXC = "lxc" // LXC's monitor
	RuntimeRun = "run" // `intercede run` with a broker of its own
)

var runtimes = []string{RuntimeLXC, RuntimeOCI, RuntimeRun}

// Condition is one key of a rule's match, or one annotation or label in it. It holds if one of the globs matches one of
// the values that the container has; not if it has none.
type Condition struct {
	Key  string // of match
	Name string // of the annotation or label

	path  Key
	globs []glob
}

// Matches reports whether one of the globs matches the value.
func (c Condition) Matches(value string) bool {
	return slices.ContainsFunc(c.globs, func(g glob) bool { return g.matches(value) })
}

// Equals reports whether the condition holds for the same containers as the other, as far as its text says.
func (c Condition) Equals(other Condition) bool {
	return c.Key == other.Key && c.Name == other.Name &&
		slices.EqualFunc(c.globs, other.globs, func(a, b glob) bool { return a.text == b.text })
}

// Wanted is its globs, for a message.
func (c Condition) Wanted() string {
	texts := make([]string, len(c.globs))
	for i, g := range c.globs {
		texts[i] = quote(g.text)
	}
	return strings.Join(texts, " or ")
}

// readMatch reads the conditions, all of which must hold.
func readMatch(t *table) []Condition {
	var conditions []Condition
	for _, key := range []string{"runtime", "id", "name", "image"} {
		conditions = append(conditions, t.condition(key, notEmpty)...)
	}
	conditions = append(conditions, t.peers("peer_uid")...)
	conditions = append(conditions, t.condition("cgroup", checkCgroup)...)
	conditions = append(conditions, t.condition("cookie", notEmpty)...)
	for _, key := range []string{"annotations", "labels"} {
		sub := t.table(key)
		for _, name := range sub.names() {
			for _, c := range sub.condition(name, anyText) {
				c.Key, c.Name = key, name
				conditions = append(conditions, c)
			}
		}
	}
	t.finish()
	t.checkContradictions(conditions)
	return conditions
}

// condition reads a glob or a list of globs; there is none if the table does not have the key.
func (t *table) condition(name string, check func(text string) error) []Condition {
	c := Condition{path: t.key(name), Key: name}
	for element, report := range t.elements(name, "a pattern such as \"build-*\", or a list of them") {
		text, isText := element.(string)
		if !isText {
			report(literal(element) + ": want a string")
			continue
		}
		g, err := parseGlob(text)
		if err == nil {
			err = check(text)
		}
		if err != nil {
			report(quote(text) + ": " + err.Error())
			continue
		}
		c.globs = append(c.globs, g)
	}
	return c.ifAny()
}

// peers reads a user id or a list of them.
func (t *table) peers(name string) []Condition {
	c := Condition{path: t.key(name), Key: name}
	for element, report := range t.elements(name, "a user id, or a list of them") {
		id, isNumber := element.(int64)
		if !isNumber || id < 0 || id >= math.MaxUint32 {
			report(literal(element) + ": want a user id, 0 to 4294967294")
			continue
		}
		g, _ := parseGlob(strconv.FormatInt(id, 10)) // digits are a glob
		c.globs = append(c.globs, g)
	}
	return c.ifAny()
}

func (c Condition) ifAny() []Condition {
	if len(c.globs) == 0 {
		return nil
	}
	return []Condition{c}
}

// elements are the one value of a key, or those of its list, each with where to report what is wrong with it.
func (t *table) elements(name, want string) func(yield func(any, func(message string)) bool) {
	return func(yield func(any, func(string)) bool) {
		value, ok := t.get(name)
		if !ok {
			return
		}
		list, isList := value.([]any)
		if !isList {
			switch value.(type) {
			case map[string]any, []map[string]any:
				t.fault(name, "%s: want %s", literal(value), want)
			default:
				yield(value, func(message string) { t.fault(name, "%s", message) })
			}
			return
		}
		if len(list) == 0 {
			t.fault(name, "an empty list matches no container: want %s", want)
		}
		for i, element := range list {
			report := func(message string) { t.reader.report(t.reader.elementProblem(t.key(name), i, message)) }
			if !yield(element, report) {
				return
			}
		}
	}
}

func anyText(string) error { return nil }

func notEmpty(text string) error {
	if text == "" {
		return errors.New("matches no container: leave the key out to match every one")
	}
	return nil
}

func checkCgroup(text string) error {
	if text == "" || !strings.ContainsRune(`/*?[\`, rune(text[0])) {
		return errors.New(`matches no container: the path of a cgroup begins with /`)
	}
	return nil
}

// checkContradictions reports conditions that no container meets at once.
func (t *table) checkContradictions(conditions []Condition) {
	possible := runtimes
	if i := slices.IndexFunc(conditions, func(c Condition) bool { return c.Key == "runtime" }); i >= 0 {
		possible = slices.DeleteFunc(slices.Clone(runtimes), func(r string) bool { return !conditions[i].Matches(r) })
		if len(possible) == 0 {
			p := t.reader.Problem(conditions[i].path, conditions[i].Wanted()+": matches no container")
			t.reader.report(near(p, conditions[i].globs[0].text, runtimes))
			return
		}
	}
	for _, c := range conditions {
		switch {
		case c.Key == "cookie" && !slices.Contains(possible, RuntimeLXC):
			t.fault(c.Key, `matches no container: only those with runtime "lxc" have a cookie`)
		case c.Key == "peer_uid" && slices.Equal(possible, []string{RuntimeRun}):
			t.fault(c.Key, `matches no container: those with runtime "run" come from no other process`)
		}
	}
}
