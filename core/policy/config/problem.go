package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Problem is one thing that is wrong with a config.
type Problem struct {
	File       string   `json:"file"`
	Line       int      `json:"line,omitempty"`       // from 1; 0: not about one place in the file
	Column     int      `json:"column,omitempty"`     // of the key or list element, in characters, from 1
	Key        string   `json:"key,omitempty"`        // "plugins.mknod.config.devices[2]"; list elements from 0
	Message    string   `json:"message"`              // what is wrong, on one line
	Accepted   []string `json:"accepted,omitempty"`   // every key or value that is accepted here, where they are few
	Suggestion string   `json:"suggestion,omitempty"` // what was probably meant
	Warning    bool     `json:"warning,omitempty"`    // the config is in force all the same
}

// Error is one line: "config.toml:12:1: plugins.mknod.config.device: unknown key; did you mean "devices"?".
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Key != "" {
		fmt.Fprintf(&b, ": %s", p.Key)
	}
	if p.Warning {
		b.WriteString(": warning")
	}
	fmt.Fprintf(&b, ": %s", p.Message)
	switch {
	case p.Suggestion != "":
		fmt.Fprintf(&b, "; did you mean %q?", p.Suggestion)
	case len(p.Accepted) > 0:
		fmt.Fprintf(&b, "; accepted: %s", strings.Join(p.Accepted, ", "))
	}
	return b.String()
}

// Problems are all that a stage found, in the order of the file.
type Problems []Problem

// Error is a line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// With adds a problem, unless it is there.
func (ps Problems) With(p Problem) Problems {
	if slices.ContainsFunc(ps, func(known Problem) bool { return known.Error() == p.Error() }) {
		return ps
	}
	return append(ps, p)
}

// Split separates those that keep the config from being in force from warnings.
func (ps Problems) Split() (faults, warnings Problems) {
	for _, p := range ps {
		if p.Warning {
			warnings = append(warnings, p)
		} else {
			faults = append(faults, p)
		}
	}
	return faults, warnings
}

// Sort puts them in the order of the file.
func (ps Problems) Sort() {
	slices.SortFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Message, b.Message),
		)
	})
}

// near completes a problem about a word that is not one of those accepted.
func near(p Problem, word string, accepted []string) Problem {
	p.Accepted, p.Suggestion = accepted, Nearest(word, accepted)
	return p
}

// Nearest is the accepted word that was probably meant, or "": at most one edit in three characters away, whatever the
// case.
func Nearest(word string, accepted []string) string {
	word = strings.ToLower(word)
	best, limit := "", max(1, len(word)/3)+1
	for _, candidate := range accepted {
		if distance := levenshtein.Distance(word, strings.ToLower(candidate), nil); distance < limit {
			best, limit = candidate, distance
		}
	}
	return best
}
