package differential

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/tests/stage"
)

// mostReports bounds the differences of a family that are reported.
const mostReports = 40

// TestDifferential makes random sequences until the time is over: DIFFERENTIAL_TIME for all families together, or
// those of DIFFERENTIAL_FAMILIES. DIFFERENTIAL_SEED has the same sequences made again, of which DIFFERENTIAL_COUNT is
// the most of a family.
func TestDifferential(t *testing.T) {
	names := slices.Sorted(maps.Keys(families))
	if only := os.Getenv("DIFFERENTIAL_FAMILIES"); only != "" {
		names = strings.Split(only, ",")
	}
	span, err := time.ParseDuration(os.Getenv("DIFFERENTIAL_TIME"))
	if err != nil {
		span = 18 * time.Second
	}
	seed, err := strconv.ParseUint(os.Getenv("DIFFERENTIAL_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano() % 1e6)
	}
	most, err := strconv.ParseUint(os.Getenv("DIFFERENTIAL_COUNT"), 10, 64)
	if err != nil {
		most = math.MaxUint64
	}
	p := newPair(stage.New(t, nil))
	for _, name := range names {
		f := families[name]
		if f == nil {
			t.Fatalf("there is no family %q", name)
		}
		r := &run{pair: p, seen: map[string]int{}, documented: map[string]int{}}
		end := time.Now().Add(span / time.Duration(len(names)))
		for i := uint64(0); i < most && time.Now().Before(end) && len(r.seen) < mostReports; i++ {
			r.try(newSequence(f, seed, i), fmt.Sprintf("%s, seed %d/%d", name, seed, i))
		}
		r.report(name, seed)
	}
	p.unanswered()
	p.daemon.CheckPlugins()
}

// TestReplay carries out the sequences of the files that DIFFERENTIAL_REPLAY names, or else those of testdata, which
// once differed, and shows what came of them.
func TestReplay(t *testing.T) {
	named := os.Getenv("DIFFERENTIAL_REPLAY")
	if named == "" {
		named = "testdata/found/*.txt"
	}
	files, err := filepath.Glob(named)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file is %q: %v", named, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sequences, err := parseSequences(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			p := newPair(stage.New(t, nil))
			for _, s := range sequences {
				got, want := p.run(s)
				t.Logf("%s\n%s", s, show(s, got, want))
				if d := s.compare(got, want); d != nil {
					if by := d.statement(); by != nil {
						t.Logf("documented: %s: %s\n%v", by.page, by.sentence, d)
						continue
					}
					t.Errorf("%v", d)
				}
			}
		})
	}
}

// show has the results of both places side by side.
func show(s sequence, got, want *observation) string {
	var b strings.Builder
	for i, c := range s.printing() {
		a, z := "-", "-"
		if i < len(got.results) {
			a = got.results[i].String()
		}
		if i < len(want.results) {
			z = want.results[i].String()
		}
		fmt.Fprintf(&b, "%s\n    container: %s\n    real root: %s\n", c, a, z)
	}
	for name, o := range map[string]*observation{"container": got, "real root": want} {
		fmt.Fprintf(&b, "%s: end %s %s\n    %s\n    %s\n", name, o.end, o.complaint, strings.Join(o.tree, "\n    "),
			strings.Join(o.mounts, "\n    "))
	}
	return b.String()
}

// newSequence is the sequence of a seed and a number: a caller of 64 or of 32 bits.
func newSequence(f *family, seed, number uint64) sequence {
	d := dice{rand.New(rand.NewPCG(seed, number))}
	s := sequence{family: f.name, bits: 64}
	if d.one(4) {
		s.bits = 32
	}
	s.commands = f.generate(d)
	return s
}

// run is the comparison of one family.
type run struct {
	*pair
	sequences, calls int
	once             int            // differences that did not come again
	seen             map[string]int // kinds of those that did
	documented       map[string]int // sentences
}

// try compares one sequence. A difference that no page has is reported with the shortest sequence that has it.
func (r *run) try(s sequence, origin string) {
	got, want := r.pair.run(s)
	r.sequences++
	r.calls += len(got.results)
	d := s.compare(got, want)
	if d == nil {
		return
	}
	if by := d.statement(); by != nil {
		r.documented[by.sentence]++
		return
	}
	kind := d.kind()
	if r.seen[kind] > 0 {
		r.seen[kind]++
		return
	}
	r.pair.unanswered() // if so it comes again, or the plugin is not what failed
	short := r.shorten(s, kind)
	if short == nil && d.gained() {
		r.test.Fault("%s: what real root is refused succeeded once: %v\n%s", origin, d, s)
		return
	}
	if short == nil {
		r.once++
		r.test.Logf("%s: a difference that did not come again: %v\n%s", origin, d, s)
		return
	}
	r.seen[kind]++
	r.test.Fault("%s: %v\n%s", origin, short, short.sequence)
}

// shorten leaves out commands as long as the difference stays. It is nil if the difference does not come again.
func (r *run) shorten(s sequence, kind string) *difference {
	again := func(s sequence) *difference {
		got, want := r.pair.run(s)
		if d := s.compare(got, want); d != nil && d.statement() == nil && d.kind() == kind {
			return d
		}
		return nil
	}
	var found *difference
	for tries := 0; found == nil && tries < 5; tries++ {
		found = again(s)
	}
	if found == nil {
		return nil
	}
	for i := len(s.commands) - 1; i >= 0; i-- {
		if d := again(s.without(i)); d != nil {
			s, found = s.without(i), d
		}
	}
	return found
}

// report says what was compared.
func (r *run) report(family string, seed uint64) {
	r.test.Logf("%s, seed %d: %d sequences, %d results compared, %d differences that did not come again", family, seed, r.sequences, r.calls,
		r.once)
	for _, sentence := range slices.Sorted(maps.Keys(r.documented)) {
		r.test.Logf("%s: documented %d times: %s", family, r.documented[sentence], sentence)
	}
	for _, kind := range slices.Sorted(maps.Keys(r.seen)) {
		r.test.Logf("%s: difference %d times: %s", family, r.seen[kind], kind)
	}
	if r.calls == 0 {
		r.test.Errorf("%s: nothing was compared", family)
	}
}
