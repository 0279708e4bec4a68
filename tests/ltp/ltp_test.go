package ltp

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

// TestLTP runs each test in each place, and compares the differences with those that the documentation has.
func TestLTP(t *testing.T) {
	folder := os.Getenv("LTP")
	if folder == "" {
		require.Lacking(t, "LTP is not set: see make ltp")
	}
	require.Root(t)
	tests := readTests(t, folder)
	documented := documentedDifferences(t)
	s := stage.New(t, nil)
	p := newPlaces(s, filepath.Join(folder, "bin"))
	var all []results
	for _, test := range tests {
		t.Run(test, func(t *testing.T) {
			r, err := p.run(t.Context(), test)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
			t.Logf("plain %v; with Intercede %v; root %v", r.plain, r.intercepted, r.root)
			if r.differs() && !documented[test] {
				t.Errorf("%s does not have the difference\nwith Intercede:\n%s\nas root:\n%s", page, r.intercepted.printed, r.root.printed)
			}
		})
	}
	p.daemon.CheckPlugins()
	os.Stdout.WriteString(table(all))
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !slices.Contains(tests, name) {
			t.Errorf("%s has a difference of %s, which is not a test", page, name)
		}
	}
}

// readTests gives the names of the tests that were built, by the list that the Linux Test Project runs them by.
func readTests(t *testing.T, folder string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "tests"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0][0] == '#' {
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, "bin", words[1])); err == nil {
			names = append(names, words[1])
		}
	}
	return names
}

// page has a table whose lines begin with a test's name in code.
const page = "../../docs/conformance.md"

var difference = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|")

func documentedDifferences(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, found := range difference.FindAllStringSubmatch(string(text), -1) {
		names[found[1]] = true
	}
	return names
}

// table counts the results.
func table(all []results) string {
	var b strings.Builder
	b.WriteString("| | passed | failed | skipped |\n|---|---|---|---|\n")
	for _, place := range []struct {
		name string
		of   func(results) result
	}{
		{"a container without plugins", func(r results) result { return r.plain }},
		{"with Intercede", func(r results) result { return r.intercepted }},
		{"real root", func(r results) result { return r.root }},
	} {
		count := map[string]int{}
		for _, r := range all {
			count[place.of(r).word()]++
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", place.name, count["passed"], count["failed"], count["skipped"])
	}
	return b.String()
}
