package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxShown bounds a container's value in a message, in bytes.
const maxShown = 64

// condition is one key of a rule's match, or one annotation or label in it. It holds if one of the globs matches one of
// the values that the container has; not if it has none.
type condition struct {
	path  toml.Key
	key   string // of match
	name  string // of the annotation or label
	globs []glob
}

// mismatch says why the condition does not hold; empty: it does.
func (c condition) mismatch(container *Container) string {
	values := container.values(c.key, c.name)
	if len(values) == 0 {
		return "no " + c.what()
	}
	for _, value := range values {
		if c.anyMatches(value) {
			return ""
		}
	}
	shown := make([]string, len(values))
	for i, value := range values {
		shown[i] = shorten(value)
	}
	return fmt.Sprintf("%s %s is not %s", c.what(), strings.Join(shown, ", "), c.wanted())
}

func (c condition) anyMatches(value string) bool {
	return slices.ContainsFunc(c.globs, func(g glob) bool { return g.matches(value) })
}

// what names what the condition is about.
func (c condition) what() string {
	switch c.key {
	case "annotations":
		return "annotation " + c.name
	case "labels":
		return "label " + c.name
	}
	return c.key
}

func (c condition) wanted() string {
	texts := make([]string, len(c.globs))
	for i, g := range c.globs {
		texts[i] = quote(g.text)
	}
	return strings.Join(texts, " or ")
}

// shorten quotes what others wrote, at a bounded length.
func shorten(text string) string {
	if len(text) > maxShown {
		text = strings.ToValidUTF8(text[:maxShown], "") + "..."
	}
	return strconv.Quote(text)
}

// readMatch reads the conditions, all of which must hold.
func readMatch(t *table) []condition {
	var conditions []condition
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
				c.key, c.name = key, name
				conditions = append(conditions, c)
			}
		}
	}
	t.finish()
	t.checkContradictions(conditions)
	return conditions
}

// condition reads a glob or a list of globs; there is none if the table does not have the key.
func (t *table) condition(name string, check func(text string) error) []condition {
	c := condition{path: t.key(name), key: name}
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
func (t *table) peers(name string) []condition {
	c := condition{path: t.key(name), key: name}
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

func (c condition) ifAny() []condition {
	if len(c.globs) == 0 {
		return nil
	}
	return []condition{c}
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
			report := func(message string) { t.doc.report(t.doc.elementProblem(t.key(name), i, message)) }
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
func (t *table) checkContradictions(conditions []condition) {
	possible := runtimes
	if i := slices.IndexFunc(conditions, func(c condition) bool { return c.key == "runtime" }); i >= 0 {
		possible = slices.DeleteFunc(slices.Clone(runtimes), func(r string) bool { return !conditions[i].anyMatches(r) })
		if len(possible) == 0 {
			p := t.doc.problem(conditions[i].path, conditions[i].wanted()+": matches no container")
			t.doc.report(near(p, conditions[i].globs[0].text, runtimes))
			return
		}
	}
	for _, c := range conditions {
		switch {
		case c.key == "cookie" && !slices.Contains(possible, RuntimeLXC):
			t.fault(c.key, `matches no container: only those with runtime "lxc" have a cookie`)
		case c.key == "peer_uid" && slices.Equal(possible, []string{RuntimeRun}):
			t.fault(c.key, `matches no container: those with runtime "run" come from no other process`)
		}
	}
}
