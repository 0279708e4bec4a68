package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/intercede/intercede/internal/wire"
)

// table reads the keys of one table: each method stores the key's value if it is there and acceptable, and leaves the
// default otherwise. What was never asked for is unknown.
type table struct {
	reader *reader
	path   Key
	values map[string]any
	known  []string
}

func (t *table) key(name string) Key {
	return append(slices.Clone(t.path), name)
}

func (t *table) get(name string) (value any, ok bool) {
	t.known = append(t.known, name)
	value, ok = t.values[name]
	return value, ok
}

func (t *table) fault(name, format string, args ...any) {
	t.reader.report(t.reader.Problem(t.key(name), fmt.Sprintf(format, args...)))
}

// read stores the key's value if it has the type of into.
func read[T any](t *table, name string, into *T, want string) (ok bool) {
	value, ok := t.get(name)
	if !ok {
		return false
	}
	typed, ok := value.(T)
	if !ok {
		t.fault(name, "%s: want %s", literal(value), want)
		return false
	}
	*into = typed
	return true
}

// names are the keys of the table.
func (t *table) names() []string {
	return slices.Sorted(maps.Keys(t.values))
}

// table is one without keys if there is none.
func (t *table) table(name string) *table {
	sub := &table{reader: t.reader, path: t.key(name)}
	read(t, name, &sub.values, "a table")
	return sub
}

func (t *table) bool(name string, into *bool) {
	read(t, name, into, "true or false")
}

func (t *table) int(name string, into *int, least, most int) {
	var n int64
	if !read(t, name, &n, "a whole number") {
		return
	}
	if n < int64(least) || n > int64(most) {
		t.fault(name, "%d: want %d to %d", n, least, most)
		return
	}
	*into = int(n)
}

// text stores a string that check accepts.
func (t *table) text(name string, into *string, check func(string) error) {
	var text string
	if !read(t, name, &text, "a string") {
		return
	}
	if err := check(text); err != nil {
		t.fault(name, "%s: %v", quote(text), err)
		return
	}
	*into = text
}

func (t *table) oneOf(name string, into *string, accepted ...string) {
	var text string
	if !read(t, name, &text, "one of "+strings.Join(accepted, ", ")) {
		return
	}
	if !slices.Contains(accepted, text) {
		t.reader.report(near(t.reader.Problem(t.key(name), "unknown value "+quote(text)), text, accepted))
		return
	}
	*into = text
}

// The limits of a deadline, and how they are written.
const (
	minDeadline = 10 * time.Millisecond
	maxDeadline = 5 * time.Minute
)

// deadline stores a duration. It must be a string: a bare number has no unit.
func (t *table) deadline(name string, into *time.Duration) {
	var text string
	if !read(t, name, &text, `a duration in quotes, with its unit, such as "10s" or "500ms"`) {
		return
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.fault(name, `%s: want a duration with its unit, such as "10s" or "500ms"`, quote(text))
		return
	}
	if d < minDeadline || d > maxDeadline {
		t.fault(name, `%s: want "10ms" to "5m"`, quote(text))
		return
	}
	*into = d
}

// verdict stores what the caller gets when the plugin fails.
func (t *table) verdict(name string, into **wire.Verdict) {
	const want = `"continue" or the name of an errno, such as "EPERM"`
	var text string
	if !read(t, name, &text, want) {
		return
	}
	if text == "continue" {
		*into = &wire.Verdict{Kind: &wire.Verdict_Continue{Continue: true}}
		return
	}
	errno, ok := parseErrno(text)
	if !ok {
		p := t.reader.Problem(t.key(name), quote(text)+": want "+want)
		p.Suggestion = Nearest(text, append([]string{"continue"}, errnoNames...))
		t.reader.report(p)
		return
	}
	*into = &wire.Verdict{Kind: &wire.Verdict_Errno{Errno: int32(errno)}}
}

// choice stores a list of different words.
func (t *table) choice(name string, into *[]string, accepted []string) {
	var list []any
	if !read(t, name, &list, "a list of strings") {
		return
	}
	words := make([]string, 0, len(list))
	for i, element := range list {
		word, isText := element.(string)
		at := func(message string) Problem { return t.reader.elementProblem(t.key(name), i, literal(element)+message) }
		switch {
		case !isText:
			t.reader.report(at(": want a string"))
		case !slices.Contains(accepted, word):
			t.reader.report(near(at(" is not one of them"), word, accepted))
		case slices.Contains(words, word):
			t.reader.report(at(" is in the list twice"))
		default:
			words = append(words, word)
		}
	}
	*into = words
}

// finish reports the keys that nobody asked for.
func (t *table) finish() {
	for _, name := range t.names() {
		if !slices.Contains(t.known, name) {
			t.reader.report(near(t.reader.Problem(t.key(name), "unknown key"), name, t.known))
		}
	}
}
