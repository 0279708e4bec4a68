package conformance

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/conformance/caller"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/rs/zerolog"
)

func TestMain(m *testing.M) {
	run.Init()
	sandbox.Init()
	caller.Init()
	become()
	os.Exit(m.Run())
}

// findings are those of a plugin.
func findings(t *testing.T, options Options) []Finding {
	t.Helper()
	require.Root(t)
	var found []Finding
	options.Log, options.Report = zerolog.Nop(), func(f Finding) { found = append(found, f) }
	if err := Run(t.Context(), options); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestFaults has plugins do what none should: the check that finds it fails, over lanes and over gRPC, and says what to
// do, and no other check does.
func TestFaults(t *testing.T) {
	const all = ""
	for name, test := range map[string]struct {
		check string // "": all of those that make calls
		text  string
		next  string
	}{
		"hangs":     {"pointers", "no answer within 500ms", "return when its context ends"},
		"nonsense":  {all, "errno 0", "an errno, Next or Continue"},
		"fails":     {all, "no luck", "an errno, Next or Continue"},
		"shouts":    {all, "?[2Jgone?", "an errno, Next or Continue"},
		"refuses":   {all, "refused to attach the container: ", "Attach is to take"},
		"unchecked": {all, "is not an sdk.Checker", "Attach is to take"},
		"nested":    {"nested namespace", "performed the call", "ask Request.Privileged"},
		"refused":   {"refused calls", "with EPERM: keyctl", `Uses: sdk.Uses{Syscalls: []string{"keyctl"}}`},
		"leaks":     {"descriptors", "/ +", "close what is opened for a call"},
		"twice":     {"repeat", "got success, and EEXIST when the plugin died", "declare RepeatCheck"},
		"dies":      {all, "the process", "find out with --log-level info"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := map[string]int{}
			options := Options{Binary: install(t, name)}
			if name == "hangs" {
				options.Timeout = 500 * time.Millisecond
			}
			for _, f := range findings(t, options) {
				if f.Status != Fail {
					continue
				}
				failed[f.Transport]++
				wrong := test.check != all && f.Check != test.check
				if wrong || !strings.Contains(f.Text, test.text) || !strings.Contains(f.Next, test.next) {
					t.Errorf("%+v", f)
				}
			}
			if failed[lanes] == 0 || failed[grpc] == 0 {
				t.Errorf("failed %v, want some", failed)
			}
		})
	}
}

// TestPasses has plugins that nothing is wrong with: no check fails, and none is skipped without a reason of the
// plugin.
func TestPasses(t *testing.T) {
	for name, skipped := range map[string][]string{
		"good": {"all", "manifest"}, "busy": {"all", "manifest"}, "harmless": nil, "checked": nil, "never": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var checks []string
			for _, f := range findings(t, Options{Binary: install(t, name)}) {
				if f.Status != OK && !slices.Contains(skipped, f.Check) {
					t.Errorf("%+v", f)
				}
				if f.Transport == grpc && f.Check != "all" {
					checks = append(checks, f.Check)
				}
			}
			want := []string{"start", "pointers", "32-bit caller", "killed before", "killed during", "nested namespace", "100 at once", "repeat",
				"descriptors", "refused calls", "stop"}
			if !slices.Equal(checks, want) {
				t.Errorf("checks %q, want %q", checks, want)
			}
		})
	}
}

// TestManifests has manifests that the launcher refuses, or that could be better.
func TestManifests(t *testing.T) {
	found := findings(t, Options{Binary: install(t, "two_lines")})
	if len(found) != 1 || found[0].Status != Fail || !strings.Contains(found[0].Text, "want one line") {
		t.Errorf("two lines: %+v", found)
	}
	var warnings []string
	for _, f := range findings(t, Options{Binary: install(t, "bare")}) {
		if f.Status == Warn && f.Check == "manifest" {
			warnings = append(warnings, f.Text)
		}
	}
	want := []string{"no description", "CAP_SYS_MODULE makes the process root of the host", "logs show six registers instead of arguments",
		"programs that call symlinkat are not intercepted"}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
}

// TestWrongUse is about errors that are no findings.
func TestWrongUse(t *testing.T) {
	require.Root(t)
	var problems config.Problems
	ignore := func(Finding) {}
	err := Run(t.Context(), Options{Binary: install(t, "good"), Settings: map[string]string{"quiet": "loud"}, Report: ignore})
	if !errors.As(err, &problems) {
		t.Errorf("a bad setting: %v", err)
	}
	if err := Run(t.Context(), Options{Binary: "/no/such", Report: ignore}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
