package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/version"
)

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"version"}} {
		if r := intercede(t, args...); r.status != 0 || !strings.HasPrefix(r.stdout, "intercede version "+version.Number()) {
			t.Errorf("%q: status %d, %q", args, r.status, r.stdout)
		}
	}
	got, want := buildInfo{}, buildInfo{version.Number(), runtime.Version(), "linux", runtime.GOARCH}
	if err := json.Unmarshal([]byte(intercede(t, "version", "--json").stdout), &got); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// TestCompletion checks the words that the shell is offered; the shell itself drops those with another beginning. The
// last line is cobra's: ":4" means no file names, ":16" means folders only.
func TestCompletion(t *testing.T) {
	for line, want := range map[string]string{
		"profile --format ":             "lxc oci :4",
		"serve --log-level d":           "trace debug info warn error :4",
		"top --sort ":                   "calls container failed inflight p50 p99 plugin quarantined state throttled :4",
		"top ":                          ":4",
		"policy explain --runtime ":     "oci lxc run :4",
		"serve --plugin-dir ":           ":16",
		"serve --config ":               ":0",
		"version ":                      ":4",
		"policy explain --config /none": ":0",
		"policy explain ":               ":4", // there is no daemon
	} {
		words := strings.Split(line, " ")
		got := strings.Join(strings.Fields(intercede(t, append([]string{"__complete"}, words...)...).stdout), " ")
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
