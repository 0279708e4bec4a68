package sdktest

import (
	"testing"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/require"
)

// Lacking skips the test since this machine lacks what the reason says, or fails it if INTERCEDE_TEST_STRICT=1.
func Lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	require.Lacking(t, format, args...)
}

// RequireRoot skips the test unless it runs as root, as Lacking does.
func RequireRoot(t testing.TB) {
	t.Helper()
	require.Root(t)
}

// RequireKernel skips the test on a kernel older than version, "5.19", which brought the feature, as Lacking does. On a
// newer one the test runs, and fails if the feature is not there. Where INTERCEDE_TEST_KERNEL pretends an older kernel,
// tests of newer features are skipped even if every test has to run.
func RequireKernel(t testing.TB, version, feature string) {
	t.Helper()
	require.Kernel(t, version, feature)
}

// RequireCgroups returns where the hierarchy of cgroups that has the controller ("devices") in version 1 is mounted, or
// with "" that of version 2. It skips the test where there is none, as Lacking does. With INTERCEDE_TEST_CGROUPS=2,
// which says that the host has version 2 alone, tests of version 1 are skipped even if every test has to run.
func RequireCgroups(t testing.TB, controller string) string {
	t.Helper()
	own, err := cgroup.Read("/proc/self/cgroup")
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	hierarchy := cgroup.Hierarchy(own, controller)
	if _, unified := own[""]; controller != "" && unified && len(own) == 1 {
		require.CgroupsV1(t, "this host has version 2 of cgroups alone")
	}
	folders, err := cgroup.Folders(map[string]string{hierarchy: "/"})
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	folder, mounted := folders[hierarchy]
	if !mounted || controller != "" && hierarchy == "" {
		Lacking(t, "the cgroups of %q are not mounted", controller)
	}
	return folder.Path
}
