package compare

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

// Suite is a suite of tests.
type Suite struct {
	Config      string   // of the plugins, in the container that has them
	Programs    string   // the folder that is seen as ProgramsPoint
	Disks       []string // the variables of the environment that name block devices
	DiskSize    string   // as truncate(1) takes it
	DeviceRules []string // of containers, beside those of the disks
	Environment []string
	// WithoutPlugins has each test run in a container without plugins too.
	WithoutPlugins bool
	// UsualPriority has tests begin with the scheduling policy and the nice value that processes have by default.
	UsualPriority bool
	// Prepare puts into the folder that is seen as WorkPoint what the tests need.
	Prepare func(s *stage.Test, work string)
	// Command is the command that runs a test.
	Command func(test string) []string
	// Read gives what a test came to, by the status of its command and what that printed.
	Read func(status int, printed string) Result
	// Difference finds a test's name in a line of the documentation's tables.
	Difference *regexp.Regexp
}

// Outcomes of a test.
const (
	Passed  = "passed"
	Failed  = "failed"
	Skipped = "skipped"
)

// Result is what a test came to in one place.
type Result struct {
	Ran     bool // the test began
	Outcome string
	Checks  int    // how many of its checks passed, where it has such
	Text    string // what is logged
	Printed string
}

// page has tables of differences.
const page = "../../docs/conformance.md"

// Run runs each test in each place. A test of which more passes as real root than in the container with plugins must be
// among the differences that the documentation has.
func (suite Suite) Run(t *testing.T, tests []string) {
	require.Root(t)
	documented := suite.documented(t)
	p := newPlaces(stage.New(t, nil), suite)
	var all []results
	for _, test := range tests {
		t.Run(test, func(t *testing.T) {
			r, err := p.run(t.Context(), test)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
			if !r.root.Ran {
				t.Fatalf("as root it did not begin:\n%s", r.root.Printed)
			}
			for _, place := range p.all() {
				t.Logf("%s: %s", place.name, place.of(&r).Text)
			}
			if r.differs() && !documented[test] {
				t.Errorf("%s does not have the difference\nwith Intercede:\n%s\nas root:\n%s", page, r.intercepted.Printed, r.root.Printed)
			}
		})
	}
	p.daemon.CheckPlugins()
	os.Stdout.WriteString(p.table(all))
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !slices.Contains(tests, name) {
			t.Errorf("%s has a difference of %s, which is not a test", page, name)
		}
	}
}

func (suite Suite) documented(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, found := range suite.Difference.FindAllStringSubmatch(string(text), -1) {
		names[found[1]] = true
	}
	return names
}

// differs reports whether a test, or one of its checks, passed as real root and not in the container with plugins.
func (r results) differs() bool {
	return r.root.Outcome == Passed && (r.intercepted.Outcome != Passed || r.intercepted.Checks < r.root.Checks)
}

// table counts the results.
func (p *places) table(all []results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| of %d tests | passed | failed | skipped |\n|---|---|---|---|\n", len(all))
	for _, place := range p.all() {
		count := map[string]int{}
		for _, r := range all {
			count[place.of(&r).Outcome]++
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d |\n", place.name, count[Passed], count[Failed], count[Skipped])
	}
	return b.String()
}
