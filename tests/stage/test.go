// Package stage is for tests of the built programs: it builds them, and runs them with containers of `intercede run`,
// OCI runtimes and LXC, which have programs of the tests inside.
package stage

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Patience bounds every wait for what must happen soon; only a failing test takes as long.
const Patience = 2 * time.Minute

// Test is a test with what it starts, which ends with it.
type Test struct {
	*testing.T
	// Fault notes a fault of the programs under test. That the test itself does not work is noted by T.
	Fault func(format string, args ...any)
	found bool // a fault
}

// New begins a test. fault may be nil: a fault is an error.
func New(t *testing.T, fault func(format string, args ...any)) *Test {
	t.Helper()
	if fault == nil {
		fault = t.Errorf
	}
	test := &Test{T: t}
	test.Fault = func(format string, args ...any) {
		test.found = true
		fault(format, args...)
	}
	return test
}

// Eventually waits for something that comes without a signal.
func (t *Test) Eventually(what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("it never came that %s", what)
}

// Command runs a program of the host, which must succeed, and gives what it printed.
func (t *Test) Command(name string, args ...string) string {
	t.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}

// Cgroup makes a cgroup in one of the hierarchies of version 1, or in that of version 2 where the first is not there.
// It is removed with the test.
func (t *Test) Cgroup(hierarchy string) string {
	t.Helper()
	parent := "/sys/fs/cgroup/" + hierarchy
	if _, err := os.Stat(parent); err != nil {
		parent = "/sys/fs/cgroup"
	}
	dir, err := os.MkdirTemp(parent, "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Eventually("the cgroup can be removed", func() bool { return os.Remove(dir) == nil })
	})
	return dir
}

// Number is what an environment variable says; usual: it is not set.
func Number(variable string, usual int) int {
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(fmt.Sprintf("%s=%q: want a number", variable, text))
	}
	return n
}
