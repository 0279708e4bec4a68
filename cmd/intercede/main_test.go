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

// binaries is the folder of the programs under test: intercede and the plugins.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "ic"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build makes the programs from the sources, as `make build` does.
func build() error {
	mains, err := filepath.Glob("../../plugins/*/intercede-plugin-*")
	if err != nil {
		return err
	}
	if err := goBuild("intercede", "."); err != nil {
		return err
	}
	for _, main := range mains {
		if err := goBuild(filepath.Base(main), "./"+main); err != nil {
			return err
		}
	}
	return os.Chmod(binaries, 0o755)
}

func goBuild(name, pkg string) error {
	output, err := exec.Command("go", "build", "-o", filepath.Join(binaries, name), pkg).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, output)
	}
	return nil
}

// result is what a command left.
type result struct {
	stdout, stderr string
	status         int
}

// program is the command line of intercede itself. What it leaves when it is killed goes with the test.
func program(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(binaries, "intercede"), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+binaries)
	return cmd
}

// intercede runs the program to its end.
func intercede(t *testing.T, args ...string) result {
	t.Helper()
	return runCmd(t, program(args...))
}

func runCmd(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// mustRun is runCmd for what must succeed. It gives standard output.
func mustRun(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	r := runCmd(t, cmd)
	if r.status != 0 {
		t.Fatalf("%s: status %d\n%s%s", strings.Join(cmd.Args, " "), r.status, r.stdout, r.stderr)
	}
	return r.stdout
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

// site is a folder with a config and what it names, for one test. Its path is short enough for sockets.
type site struct {
	dir string
}

// newSite writes the config; %s in it is the folder.
func newSite(t *testing.T, plugins string) *site {
	t.Helper()
	sdktest.RequireRoot(t)
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{dir}
	s.write(t, plugins)
	return s
}

// write replaces the config. Its plugins are granted what they ask for.
func (s *site) write(t *testing.T, plugins string) {
	t.Helper()
	plugins = granted(plugins)
	text := fmt.Sprintf("[broker]\nsocket = %q\nlxc_socket = %q\ncontrol = %q\nplugin_dir = %q\n%s", s.socket(), s.lxcSocket(),
		s.dir+"/control", binaries, plugins)
	// In one step: a daemon that reads half of it would take the defaults for the rest.
	err := errors.Join(os.WriteFile(s.config()+".new", []byte(text), 0o644), os.Rename(s.config()+".new", s.config()))
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) config() string    { return filepath.Join(s.dir, "config.toml") }
func (s *site) socket() string    { return filepath.Join(s.dir, "oci") }
func (s *site) lxcSocket() string { return filepath.Join(s.dir, "lxc") }

// both enables the plugins with their defaults.
const both = "[plugins.mknod]\n[plugins.sysinfo]\n"

// require skips a test whose programs are not installed, or fails it in CI.
func require(t *testing.T, programs ...string) {
	t.Helper()
	sdktest.RequireRoot(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			sdktest.Lacking(t, "%s is not installed: run scripts/install-packages", p)
		}
	}
}
