package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/conformance"
)

// everyCall are settings of the project's plugins that switch on all of their calls.
var everyCall = map[string][]string{
	"bpf":      {"devices=true"},
	"mknod":    nil,
	"mount":    {`allowed=["ext4"]`, `loop=["1000"]`, `fuse={ "fuse.sshfs" = "sshfs" }`},
	"sched":    {"min_nice=-20", "max_io_priority=rt:0"},
	"setxattr": {"read=true", `attributes=["trusted.overlay.opaque", "security.NTACL"]`},
	"sysinfo":  {"uptime=container", "loads=container"},
}

// TestPluginTestPasses has the project's own plugins pass, with no check left out and no warning.
func TestPluginTestPasses(t *testing.T) {
	require(t)
	for _, binary := range pluginBinaries(t) {
		name := strings.TrimPrefix(filepath.Base(binary), "intercede-plugin-")
		t.Run(name, func(t *testing.T) {
			settings, ok := everyCall[name]
			if !ok {
				t.Fatal("everyCall does not have the plugin")
			}
			args := []string{"plugin", "test", binary, "--json"}
			for _, s := range settings {
				args = append(args, "--set", s)
			}
			r := intercede(t, args...)
			var findings []conformance.Finding
			if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil || r.status != 0 {
				t.Errorf("status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
			}
			made := map[string]int{}
			for _, f := range findings {
				made[f.Check]++
				if f.Status != conformance.OK {
					t.Errorf("%+v", f)
				}
			}
			if made["repeat"] < 2 || made["stop"] != 2 {
				t.Errorf("checks %v", made)
			}
		})
	}
}

// TestProfileOfEveryCall has runtimes be told to notify all that the plugins can take, beside the rules of a usual
// base.
func TestProfileOfEveryCall(t *testing.T) {
	require(t)
	var text strings.Builder
	for name, settings := range everyCall {
		fmt.Fprintf(&text, "[plugins.%s]\n[plugins.%s.config]\n", name, name)
		for _, s := range settings {
			key, value, _ := strings.Cut(s, "=")
			if _, err := strconv.Atoi(value); err != nil && value != "true" && !strings.ContainsAny(value, "[{") {
				value = strconv.Quote(value)
			}
			fmt.Fprintln(&text, key, "=", value)
		}
	}
	s := newSite(t, text.String())
	for _, args := range [][]string{
		{"--format", "oci"}, {"--format", "lxc"}, {"--format", "oci", "--base", "../../core/filter/testdata/containers-default.json"},
	} {
		r := intercede(t, append([]string{"profile", "--config", s.config()}, args...)...)
		if r.status != 0 || !strings.Contains(r.stdout, "setxattr") {
			t.Errorf("%q: status %d: %s", args, r.status, r.stderr)
		}
	}
}

func pluginBinaries(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(binaries, "intercede-plugin-*"))
	if err != nil || len(found) < 6 {
		t.Fatalf("%d plugins, %v", len(found), err)
	}
	return found
}

// TestPluginTestCommand is what the command prints and its exit status, with a binary that is not root's.
func TestPluginTestCommand(t *testing.T) {
	require(t)
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "mine")
	text, err := os.ReadFile(filepath.Join(binaries, "intercede-plugin-bpf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(binary, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   []string
		status int
		stdout string // a pattern of lines, in their order
		stderr string
	}{
		{[]string{binary}, 0, "ok    -      -                   manifest          bpf 0.1.0 takes bpf;|" +
			"skip  -      -                   all               the settings switch these off: bpf|" +
			"      switch them on by devices, with --set|" +
			"ok    lanes  -                   start|ok    grpc   -                   stop|9 ok, 0 failed, 1 skipped, 0 warnings\n", ""},
		{[]string{"/bin/true"}, 1, "FAIL  -      -                   manifest          it does not print a manifest|" +
			"      mend the manifest|0 ok, 1 failed", ""},
		{[]string{binary, "--set", "device=true"}, 2, "", `--set: device: unknown key; did you mean "devices"?`},
		{[]string{binary, "--set", "devices=yes"}, 2, "", `--set: devices: "yes": want a value as in config.toml`},
		{[]string{binary, "--set", "devices"}, 2, "", `--set "devices": want K=V`},
		{[]string{dir + "/none"}, 1, "", "no such file or directory"},
		{nil, 2, "", "accepts 1 arg(s)"},
	} {
		t.Run(fmt.Sprint(test.args), func(t *testing.T) {
			r := intercede(t, append([]string{"plugin", "test"}, test.args...)...)
			if r.status != test.status || !strings.Contains(r.stderr, test.stderr) {
				t.Errorf("status %d, want %d; %s", r.status, test.status, r.stderr)
			}
			rest := r.stdout
			for part := range strings.SplitSeq(test.stdout, "|") {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("%q is not in %q", part, r.stdout)
				}
				rest = after
			}
		})
	}
	if left, err := filepath.Glob(filepath.Join(binaries, "intercede-[0-9]*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
