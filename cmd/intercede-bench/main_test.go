package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// binaries is the folder of the program under test and of all plugins.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "ic"); err == nil {
		defer os.RemoveAll(binaries)
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build makes the programs from the sources, as `make build` does. With the race detector, under which these tests may
// run, what is measured would take many times as long.
func build() error {
	sources, err := filepath.Glob("../../plugins/*/intercede-plugin-*")
	if err != nil {
		return err
	}
	folders := map[string]string{"intercede-bench": ".", "intercede-plugin-noop": "./intercede-plugin-noop"}
	for _, source := range sources {
		folders[filepath.Base(source)] = source
	}
	for name, dir := range folders {
		if output, err := exec.Command("go", "build", "-o", filepath.Join(binaries, name), dir).CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", dir, err, output)
		}
	}
	return os.Chmod(binaries, 0o755)
}

// result is what a command left.
type result struct {
	stdout, stderr string
	status         int
}

// intercedeBench runs the program to its end.
func intercedeBench(t *testing.T, args ...string) result {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "intercede-bench"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// pluginFolder has the named plugins alone.
func pluginFolder(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		name = "intercede-plugin-" + name
		if err := os.Symlink(filepath.Join(binaries, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pluginTable is the header of a plugin's table, or of its settings.
var pluginTable = regexp.MustCompile(`(?m)^\[plugins\.(\w+)(\.config)?\]$`)

// granted grants the plugins of a config that grants nothing what they ask for.
func granted(config string) string {
	if strings.Contains(config, "grant =") {
		return config
	}
	seen := map[string]bool{}
	return pluginTable.ReplaceAllStringFunc(config, func(header string) string {
		name := pluginTable.FindStringSubmatch(header)[1]
		table := "[plugins." + name + "]\ngrant = \"manifest\""
		switch {
		case seen[name]:
			return header
		case strings.HasSuffix(header, ".config]"):
			table += "\n" + header
		}
		seen[name] = true
		return table
	})
}

// writeConfig writes a config for a test that needs root, as containers and plugins do. Its plugins are granted
// what they ask for.
func writeConfig(t *testing.T, text string) (path string) {
	t.Helper()
	sdktest.RequireRoot(t)
	path = filepath.Join(t.TempDir(), "config.toml")
	text = granted(text)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantText checks that a text has all parts.
func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}
