package sdktest

import (
	"testing"

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
// newer one the test runs, and fails if the feature is not there.
func RequireKernel(t testing.TB, version, feature string) {
	t.Helper()
	require.Kernel(t, version, feature)
}
