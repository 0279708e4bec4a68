// Package require skips tests on machines that lack what they need, or fails them where every test has to run.
package require

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// strictEnv, set to 1, turns skips for what a machine lacks into failures, so that a run that should test everything
// cannot pass without.
const strictEnv = "INTERCEDE_TEST_STRICT"

// Lacking skips the test since this machine lacks what the reason says, or fails it if INTERCEDE_TEST_STRICT=1.
func Lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(strictEnv) == "1" {
		t.Fatalf(format+": a failure, since "+strictEnv+"=1", args...)
	}
	t.Skipf(format, args...)
}

// Root skips the test unless it runs as root, as Lacking does.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "needs root")
	}
}

// Kernel skips the test on a kernel older than version, "5.19", which brought the feature, as Lacking does. On a
// newer one the test runs, and fails if the feature is not there.
func Kernel(t testing.TB, version, feature string) {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatalf("require: uname: %v", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	older, err := olderThan(release, version)
	if err != nil {
		t.Fatalf("require: %v", err)
	}
	if older {
		Lacking(t, "%s needs kernel %s, this is %s", feature, version, release)
	}
}

// olderThan compares the first two numbers of two kernel releases.
func olderThan(release, version string) (bool, error) {
	have, err := parseRelease(release)
	if err != nil {
		return false, err
	}
	want, err := parseRelease(version)
	if err != nil {
		return false, err
	}
	return have[0] < want[0] || have[0] == want[0] && have[1] < want[1], nil
}

func parseRelease(text string) (release [2]int, err error) {
	if _, err := fmt.Sscanf(text, "%d.%d", &release[0], &release[1]); err != nil {
		return release, fmt.Errorf("kernel release %q: want MAJOR.MINOR: %w", text, err)
	}
	return release, nil
}
