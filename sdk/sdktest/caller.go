package sdktest

import (
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

//go:embed testdata/zsyscalls.h
var callerSyscalls string

//go:embed testdata/caller.c
var callerProgram string

var callerSource = callerSyscalls + "#line 1 \"caller.c\"\n" + callerProgram

//go:embed testdata/race.c
var raceSource string

// compiled is one build of a program, made at most once in a test run.
type compiled struct {
	name     string
	source   string
	compiler []string
	once     sync.Once
	dir      string
	err      error
	log      []byte
}

var (
	caller64 = compiled{name: "caller", source: callerSource, compiler: compiler64}
	caller32 = compiled{name: "caller32", source: callerSource, compiler: compiler32()}
	race     = compiled{name: "race", source: raceSource, compiler: compiler64}
)

var compiler64 = []string{"gcc"}

// compiler32 makes programs for i386, or for 32-bit Arm where the machine is an arm64, whose own compiler does not.
func compiler32() []string {
	if runtime.GOARCH == "arm64" {
		return []string{"arm-linux-gnueabihf-gcc"}
	}
	return []string{"gcc", "-m32"}
}

// Caller compiles the caller, a program that makes the system calls which its arguments say, and returns its path on
// the host; it is linked statically and needs no file but itself. The package comment describes the language of its
// arguments. Where there is no C compiler the test is skipped, or fails if INTERCEDE_TEST_STRICT=1.
func Caller(t testing.TB) string {
	t.Helper()
	return caller64.path(t)
}

// Race compiles a program that tries to have a call that it may not make performed with the credentials of a
// set-user-ID program, see testdata/race.c. The arguments are how often, the longest delay, and how long that program
// lives, in ns.
func Race(t testing.TB) string {
	t.Helper()
	return race.path(t)
}

func (c *compiled) path(t testing.TB) string {
	t.Helper()
	c.once.Do(c.compile)
	if c.err != nil {
		Lacking(t, "cannot compile %s: %v\n%s", c.name, c.err, c.log)
	}
	return filepath.Join(c.dir, c.name)
}

func (c *compiled) compile() {
	if c.dir, c.err = os.MkdirTemp("", "sdktest"); c.err != nil {
		return
	}
	args := slices.Concat(c.compiler[1:], []string{"-static", "-O1", "-Wall", "-pthread", "-o", filepath.Join(c.dir, c.name), "-x", "c", "-"})
	gcc := exec.Command(c.compiler[0], args...)
	gcc.Stdin = strings.NewReader(c.source)
	c.log, c.err = gcc.CombinedOutput()
}

// removeCallers removes what was compiled.
func removeCallers() {
	for _, c := range []*compiled{&caller64, &caller32, &race} {
		if c.dir != "" {
			os.RemoveAll(c.dir)
		}
	}
}

// Call runs the caller in the container with a script, a command an argument; see Caller.
func (c *Container) Call(t testing.TB, script ...string) Result {
	t.Helper()
	return c.Run(t, c.Install(t, Caller(t)), script...)
}

// Line is what one command of the caller found.
type Line struct {
	Op    string        `json:"op"`    // "sys", "stat", "openfile"
	Ret   int64         `json:"ret"`   // sys: what the call returned
	Errno syscall.Errno `json:"errno"` // 0: it succeeded
	Bufs  []Buffer      `json:"bufs"`  // sys: the buffers after the call, in the order of the arguments
	Mode  uint32        `json:"mode"`  // stat: S_IFMT included
	Major uint32        `json:"major"` // stat: of the device that it is
	Minor uint32        `json:"minor"`
	UID   uint32        `json:"uid"` // stat: in the caller's user namespace
	GID   uint32        `json:"gid"`
}

// Buffer is memory that a call was given.
type Buffer []byte

// String is a Go string literal of the bytes, for messages.
func (b Buffer) String() string { return strconv.Quote(string(b)) }

// UnmarshalText decodes hexadecimal digits.
func (b *Buffer) UnmarshalText(text []byte) error {
	var err error
	*b, err = hex.DecodeString(string(text))
	return err
}

// Lines are what the caller printed. A script that could not be carried out to its end fails the test.
func (r Result) Lines(t testing.TB) []Line {
	t.Helper()
	if r.ExitCode != 0 {
		t.Fatalf("sdktest: the caller exited with %d (%v): %s", r.ExitCode, r.Signal, r.Stderr)
	}
	lines, err := r.printed()
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	return lines
}

// printed are the lines that the caller printed before its end.
func (r Result) printed() ([]Line, error) {
	var lines []Line
	for text := range strings.Lines(r.Stdout) {
		var line Line
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			return nil, fmt.Errorf("the caller printed %q: %w", text, err)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// Errnos are the errors of the lines, with "ok" for none: "ok EEXIST".
func Errnos(lines []Line) string {
	var names []string
	for _, l := range lines {
		names = append(names, errnoName(l.Errno))
	}
	return strings.Join(names, " ")
}

// errnoName is the error's name, or "ok".
func errnoName(errno syscall.Errno) string {
	if errno == 0 {
		return "ok"
	}
	return unix.ErrnoName(errno)
}

// Tally counts the errors of the lines; 0 is success.
func Tally(lines []Line) map[syscall.Errno]int {
	counts := map[syscall.Errno]int{}
	for _, l := range lines {
		counts[l.Errno]++
	}
	return counts
}
