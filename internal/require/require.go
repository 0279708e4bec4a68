// Package require skips tests on machines that lack what they need, or fails them where every test has to run.
package require

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// strictEnv, set to 1, turns skips for what a machine lacks into failures, so that a run that should test everything
// cannot pass without.
const strictEnv = "INTERCEDE_TEST_STRICT"

// KernelEnv is the version of the kernel that a run is about, such as "5.15": this one, or an older one that it is
// pretended to be (tests/oldkernel).
const KernelEnv = "INTERCEDE_TEST_KERNEL"

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
// newer one the test runs, and fails if the feature is not there. Where a run says which kernel it is about
// (KernelEnv), tests of newer features are skipped even if every test has to run.
func Kernel(t testing.TB, version, feature string) {
	t.Helper()
	release, said := kernel(t)
	switch older := isOlder(t, release, version); {
	case older && said:
		t.Skipf("%s needs kernel %s, this run is about %s", feature, version, release)
	case older:
		Lacking(t, "%s needs kernel %s, this is %s", feature, version, release)
	}
}

// CgroupsEnv is "2" where a run says that the host has version 2 of cgroups alone.
const CgroupsEnv = "INTERCEDE_TEST_CGROUPS"

// CgroupsV1 skips the test, which needs version 1 of cgroups, as Lacking does. Where a run says that the host has none
// (CgroupsEnv), it is skipped even if every test has to run.
func CgroupsV1(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(CgroupsEnv) == "2" {
		t.Skipf(format, args...)
	}
	Lacking(t, format, args...)
}

// KernelLacks skips the test, which is about something that no version of the kernel tells, as Lacking does. Where a run
// says which kernel it is about (KernelEnv), it is skipped even if every test has to run.
func KernelLacks(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(KernelEnv) != "" {
		t.Skip(reason)
	}
	Lacking(t, "%s", reason)
}

// ProcessorsEnv is "1" where a run says that the machine has one processor.
const ProcessorsEnv = "INTERCEDE_TEST_PROCESSORS"

// Processors skips the test, which needs more than one processor, as Lacking does where there is one. Where a run says
// that there is one (ProcessorsEnv), it is skipped even if every test has to run.
func Processors(t testing.TB) {
	t.Helper()
	switch {
	case runtime.NumCPU() > 1:
	case os.Getenv(ProcessorsEnv) == "1":
		t.Skip("needs more than one processor")
	default:
		Lacking(t, "needs more than one processor")
	}
}

// OldKernel reports whether the kernel is older than version, "5.19", or is pretended to be.
func OldKernel(t testing.TB, version string) bool {
	t.Helper()
	release, _ := kernel(t)
	return isOlder(t, release, version)
}

func kernel(t testing.TB) (release string, said bool) {
	t.Helper()
	if version := os.Getenv(KernelEnv); version != "" {
		return version, true
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatalf("require: uname: %v", err)
	}
	return unix.ByteSliceToString(name.Release[:]), false
}

func isOlder(t testing.TB, release, version string) bool {
	t.Helper()
	older, err := Older(release, version)
	if err != nil {
		t.Fatalf("require: %v", err)
	}
	return older
}

// Older reports whether a kernel release is older than version, "5.19": it compares their first two numbers.
func Older(release, version string) (bool, error) {
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
