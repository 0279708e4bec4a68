package sdktest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest/internal/script"
)

// Scripts is what the scripts of a package need beside themselves.
type Scripts struct {
	// On has the environments that scripts name with "on".
	On map[string]Environment

	// Alike takes out of what one call printed that which differs from process to process, such as addresses. nil:
	// nothing.
	Alike func(*Line)
}

// Environment makes a container by new, with options, or with files put into it, that a script needs. It is called for
// the container whose calls are intercepted and for the one that it is compared with: the container's Identity tells
// which user is root in it.
type Environment func(t testing.TB, new func(...Option) *Container) *Container

// RunScripts runs the scripts of a folder, its files *.script: each is a subtest, and each of its cases one below that.
// The package documentation describes the language.
//
//	func TestScripts(t *testing.T) { sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{}) }
//
//	go test -run TestScripts/paths/dot-dot
//
// A failure names the line: testdata/paths.script:12: sys mknod s:n S_IFCHR|0666 dev:1:3: got EACCES, want ok.
// The cases of a file that have the same options share their containers.
func RunScripts(t *testing.T, h sdk.Handler, dir string, s Scripts) {
	t.Helper()
	for _, file := range s.parse(t, dir) {
		t.Run(file.Name, func(t *testing.T) {
			t.Helper()
			places := s.places(t, h)
			for _, c := range file.Cases {
				intercepted, twin := places.of(c, ""), places.of(c, c.Twin)
				t.Run(c.Name, func(t *testing.T) {
					t.Helper()
					if c.Kernel != "" {
						RequireKernel(t, c.Kernel, c.Feature)
					}
					s.run(t, c, intercepted, twin)
				})
			}
		})
	}
}

// parse reads all scripts before any is run.
func (s Scripts) parse(t *testing.T, dir string) []*script.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.script"))
	if err != nil || len(names) == 0 {
		t.Fatalf("sdktest: there is no file *.script in the folder %q", dir)
	}
	var files []*script.File
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("sdktest: %v", err)
		}
		file, err := script.Parse(name, text, func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range file.Cases {
			if _, ok := s.On[c.On]; !ok && c.On != "" {
				t.Fatalf("%s: on %s: the test has no such environment", c.At, c.On)
			}
			expectMissing(t, c.Lines)
		}
		files = append(files, file)
	}
	return files
}

// newCalls are the system calls of scripts that the oldest supported kernel lacks, with the version that brought them.
var newCalls = map[string]string{
	"setxattrat": "6.13", "getxattrat": "6.13", "listxattrat": "6.13", "removexattrat": "6.13",
}

// expectMissing has calls that this kernel lacks fail.
func expectMissing(t testing.TB, lines []script.Line) {
	t.Helper()
	for i := range lines {
		if lines[i].Prints && missing(t, lines[i].Call) {
			lines[i].Errno, lines[i].Kind, lines[i].Reason = "ENOSYS", "", ""
		}
	}
}

// missing reports whether this kernel lacks a system call.
func missing(t testing.TB, syscall string) bool {
	t.Helper()
	since, newer := newCalls[syscall]
	return newer && require.OldKernel(t, since)
}

// run runs a case where its calls are intercepted and in the container that it is compared with.
func (s Scripts) run(t testing.TB, c *script.Case, intercepted, twin *place) {
	t.Helper()
	got := intercepted.run(t, c)
	got.checkErrnos(t, "got")
	got.checkKinds(t)
	if twin == nil {
		return
	}
	want := twin.run(t, c)
	want.checkErrnos(t, twin.title+" gets")
	for i := range min(len(got.printed), len(want.printed)) {
		a, b := got.printed[i], want.printed[i]
		if s.Alike != nil {
			s.Alike(&a)
			s.Alike(&b)
		}
		// A wrong error has been reported already.
		if a.Errno == b.Errno && !reflect.DeepEqual(a, b) {
			line := got.printing[i]
			t.Errorf("%s: %s: got\n%+v\n%s gets\n%+v", line.At, line.Text, a, twin.title, b)
		}
	}
}

// place is a container with the caller in it.
type place struct {
	container *Container
	program   string
	title     string // in messages
}

// placeKey is what the cases have in common that share a place.
type placeKey struct {
	on       string
	settings string // of the container whose calls are intercepted
	arch32   bool
	twin     script.Twin // "": the container whose calls are intercepted
}

// places are those of a file.
type places struct {
	t       testing.TB
	handler sdk.Handler
	on      map[string]Environment
	made    map[placeKey]*place
}

func (s Scripts) places(t testing.TB, h sdk.Handler) *places {
	return &places{t: t, handler: h, on: s.On, made: map[placeKey]*place{}}
}

// of is the place of a case, or its twin, which is nil if there is none.
func (p *places) of(c *script.Case, twin script.Twin) *place {
	p.t.Helper()
	if twin == script.Nothing {
		return nil
	}
	settings, err := json.Marshal(c.Settings)
	if err != nil {
		p.t.Fatalf("%s: settings: %v", c.At, err)
	}
	key := placeKey{on: c.On, settings: string(settings), arch32: c.Arch32, twin: twin}
	if twin != "" {
		key.settings = ""
	}
	if p.made[key] == nil {
		p.made[key] = p.make(c, twin)
	}
	return p.made[key]
}

func (p *places) make(c *script.Case, twin script.Twin) *place {
	p.t.Helper()
	handler, title, own := p.handler, "the caller", []Option{WithSettings(c.Settings)}
	switch twin {
	case script.RealRoot:
		handler, title, own = nil, "real root", []Option{WithRealRoot()}
	case script.Unintercepted:
		handler, title, own = nil, "a caller without the plugin", nil
	}
	newContainer := func(options ...Option) *Container {
		p.t.Helper()
		return NewContainer(p.t, handler, append(own, options...)...)
	}
	var container *Container
	if c.On == "" {
		container = newContainer()
	} else {
		container = p.on[c.On](p.t, newContainer)
	}
	program := &caller64
	if c.Arch32 {
		program = &caller32
	}
	return &place{container, container.Install(p.t, program.path(p.t)), title}
}

// run runs a case in a directory of its own.
func (p *place) run(t testing.TB, c *script.Case) *observation {
	t.Helper()
	own := "/tmp/" + c.Name
	commands := []string{"umask 022", "mkdir " + own, "chdir " + own}
	before := len(commands)
	preamble := []string{"umask", "mkdir", "chdir"} // which the plugin may take
	o := &observation{Case: c, done: len(c.Lines)}
	for _, line := range c.Lines {
		commands = append(commands, line.Text)
		if line.Prints {
			o.printing = append(o.printing, line)
		}
	}
	result := p.container.Run(t, p.program, commands...)
	var err error
	if o.printed, err = result.printed(); err != nil {
		t.Fatalf("%s: %v", c.At, err)
	}
	o.calls = result.Calls
	for _, name := range preamble {
		if len(o.calls) > 0 && isMadeBy(o.calls[0].Syscall, name) {
			o.calls = o.calls[1:]
		}
	}
	for _, call := range o.calls {
		if call.Outcome.File != nil {
			// What sdktest's copy of a descriptor keeps alive would meet the next case.
			call.Outcome.File.Close()
		}
	}
	if result.ExitCode != 0 {
		o.fail(t, p.title, result, before)
	}
	return o
}

// observation is what became of a case in one place.
type observation struct {
	*script.Case
	printing []script.Line // the lines that print a result
	printed  []Line        // the results
	calls    []Record
	done     int // how many lines were carried out
}

// fail reports at which command the caller gave up. The first commands, as many as before says, are not of the script.
func (o *observation) fail(t testing.TB, title string, result Result, before int) {
	t.Helper()
	message := strings.TrimSpace(result.Stderr)
	var command int
	if _, err := fmt.Sscanf(message, "caller: command %d:", &command); err != nil || command <= before {
		t.Fatalf("%s: %s exited with %d (%v): %s", o.At, title, result.ExitCode, result.Signal, message)
	}
	o.done = command - before - 1
	_, message, _ = strings.Cut(message, fmt.Sprintf("command %d: ", command))
	t.Errorf("%s: %s: %s cannot go on: %s", o.Lines[o.done].At, o.Lines[o.done].Text, title, message)
}

// checkErrnos compares the results with what the script expects. Who says who got them.
func (o *observation) checkErrnos(t testing.TB, who string) {
	t.Helper()
	if len(o.printed) > len(o.printing) || o.done == len(o.Lines) && len(o.printed) != len(o.printing) {
		t.Errorf("%s: the caller printed %d results, want %d", o.At, len(o.printed), len(o.printing))
		return
	}
	for i, result := range o.printed {
		line := o.printing[i]
		if name := errnoName(result.Errno); name != line.Errno {
			t.Errorf("%s: %s: %s %s, want %s", line.At, line.Text, who, name, line.Errno)
		}
	}
}

// successors are the calls by which the caller makes those that arm64 lacks (testdata/caller.c).
var successors = map[string]string{
	"chmod": "fchmodat", "chown": "fchownat", "mkdir": "mkdirat", "mknod": "mknodat", "open": "openat", "rename": "renameat",
	"rmdir": "unlinkat", "symlink": "symlinkat", "unlink": "unlinkat",
}

// isMadeBy reports whether a line of a script with the call named may make the call made.
func isMadeBy(made, named string) bool {
	return made == named || runtime.GOARCH == "arm64" && made == successors[named]
}

// checkKinds compares how the calls were answered with what the script expects. The commands are carried out one after
// the other, so that each call belongs to the next line that expects one of its name. A call that no line expects is in
// the way of the next one, or is left over.
func (o *observation) checkKinds(t testing.TB) {
	t.Helper()
	// A call that the kernel lacks is notified all the same, but where an older kernel is pretended. It is left to it.
	calls := slices.DeleteFunc(slices.Clone(o.calls), func(r Record) bool { return missing(t, r.Syscall) && r.Outcome.Kind == Next })
	for _, line := range o.Lines[:o.done] {
		switch {
		case line.Kind == "":
		case len(calls) == 0 || !isMadeBy(calls[0].Syscall, line.Call):
			t.Errorf("%s: %s: the plugin was not asked, want %s", line.At, line.Text, line.Kind)
		default:
			if answer := calls[0].Outcome; string(answer.Kind) != line.Kind {
				t.Errorf("%s: %s: answered by %s, want %s", line.At, line.Text, answer, line.Kind)
			} else if line.Reason != "" && answer.Reason != line.Reason {
				t.Errorf("%s: %s: the reason is %q (%s), want %s", line.At, line.Text, answer.Reason, answer.Because, line.Reason)
			}
			calls = calls[1:]
		}
	}
	if len(calls) > 0 && o.done == len(o.Lines) {
		t.Errorf("%s: the plugin was asked about %s, which no line expects: %v", o.At, calls[0].Syscall, calls[0].Outcome)
	}
}
