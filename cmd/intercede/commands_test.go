package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/policy"
)

func TestUsage(t *testing.T) {
	for _, line := range []string{
		"nonsense", "--nonsense", "run", "run --memory much -- true", "run --annotation k -- true", "check --nonsense",
		"check extra", "serve extra", "profile", "profile --format lxc2", "status a b",
		"health extra", "health --timeout soon", "health --timeout 0s",
		"top extra", "top --interval 1ms", "top --count -1", "top --sort state", "top --plugins --sort throttled",
		"plugin", "plugin nonsense", "policy",
		"policy nonsense", "policy explain", "policy explain a b", "policy explain a --id b",
		"oci-runtime --nonsense", "oci-runtime --runtime bin/runc -- list", "policy explain --annotation k", "policy explain --label =v",
		"trace a b", "trace --outcome maybe", "why", "why a b",
		"policy explain --peer-uid -1", "plugin new", "plugin new hello", "plugin new a/b --syscall mount", "plugin new hello --syscall nonsense",
		"plugin new hello --syscall mount --lang perl", "plugin run", "plugin run bin", "plugin run bin true", "plugin run bin more -- true",
		"plugin run bin --", "plugin run bin --set k -- true",
	} {
		t.Run(line, func(t *testing.T) {
			r := intercede(t, strings.Fields(line)...)
			if r.status != cli.ExitUsage || r.stdout != "" {
				t.Errorf("status %d: %s%s", r.status, r.stdout, r.stderr)
			}
			wantText(t, r.stderr, "intercede: ")
		})
	}
}

// Every command has a help text with an example.
func TestHelp(t *testing.T) {
	commands := [][]string{{"plugin", "list"}, {"plugin", "new"}, {"plugin", "run"}, {"policy", "explain"}, {"oci-runtime"}}
	listed := regexp.MustCompile(`(?m)^  ([a-z]+) +[A-Z]`)
	for _, found := range listed.FindAllStringSubmatch(mustRun(t, program("--help")), -1) {
		if name := found[1]; name != "completion" && name != "help" {
			commands = append(commands, []string{name})
		}
	}
	if len(commands) < 7 {
		t.Fatalf("commands: %v", commands)
	}
	for _, command := range commands {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			wantText(t, mustRun(t, program(append(command, "--help")...)), "Usage:", "Examples:\n  intercede "+strings.Join(command, " "))
		})
	}
}

func TestCheckShowsAllProblems(t *testing.T) {
	s := newSite(t, `
[plugins.mknod]
on_failure = "EPERMM"
[plugins.mknod.config]
devices = ["c 1:3", "x 1:5"]
device = []
[plugins.sysinfo.config]
loads = "guest"
[plugins.sysinf]
[broken]
`)
	for _, command := range [][]string{{"check"}, {"run", "--", "true"}, {"serve"}, {"profile", "--format", "oci"}} {
		t.Run(command[0], func(t *testing.T) {
			args := append([]string{command[0], "--config", s.config()}, command[1:]...)
			r := intercede(t, args...)
			if r.status != cli.ExitFailure {
				t.Errorf("status %d", r.status)
			}
			wantText(t, r.stderr, s.config()+":9:1: plugins.mknod.on_failure", `"EPERMM"`, s.config()+":17:1: plugins.sysinf:",
				`did you mean "sysinfo"`,
				s.config()+":19:1: broken", "plugins.mknod.config.device:", "plugins.sysinfo.config.loads")
		})
	}
	s.write(t, "[plugins.mknod]\n[plugins.mknod.config]\ndevices = [\"c 1:3\", \"x 1:5\"]\ndevice = []\n"+
		"[plugins.sysinfo.config]\nloads = \"guest\"\n")
	r := intercede(t, "check", "--config", s.config(), "--json")
	var problems []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &problems); err != nil || r.status != cli.ExitFailure {
		t.Fatalf("status %d, %v: %s", r.status, err, r.stdout)
	}
	if len(problems) != 3 {
		t.Errorf("%d problems: %s", len(problems), r.stdout)
	}
	wantText(t, r.stdout, "x 1:5", "plugins.mknod.config.device", "plugins.sysinfo.config.loads", "container")
}

func TestCheckAcceptsShippedConfig(t *testing.T) {
	s := newSite(t, both)
	text, err := os.ReadFile("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.config(), text, 0o644); err != nil {
		t.Fatal(err)
	}
	wantText(t, mustRun(t, program("check", "--config", s.config(), "--plugin-dir", binaries)), "no problems")
	// Every key is at its default: what is commented out would change nothing either.
	uncommented := regexp.MustCompile(`(?m)^# (timeout|on_failure|path) =`).ReplaceAll(text, []byte("$1 ="))
	if err := os.WriteFile(s.config(), uncommented, 0o644); err != nil {
		t.Fatal(err)
	}
	mustRun(t, program("check", "--config", s.config(), "--plugin-dir", binaries))
}

// TestShippedConfigHasDefaults: every key of a plugin is there at its default.
func TestShippedConfigHasDefaults(t *testing.T) {
	text, err := os.ReadFile("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	enabled := strings.ReplaceAll(string(text), "enabled = false", "enabled = true")
	bare := granted(strings.Join(regexp.MustCompile(`(?m)^\[plugins\.\w+\]$`).FindAllString(enabled, -1), "\n"))
	shipped, defaults := explainedSettings(t, enabled), explainedSettings(t, bare)
	if len(shipped) == 0 || !reflect.DeepEqual(shipped, defaults) {
		t.Errorf("config.toml gives\n%v\nand defaults alone\n%v", shipped, defaults)
	}
	for name := range shipped {
		// A setting that is not there could not be another.
		settings := regexp.MustCompile(`(?s)\[plugins\.` + strings.Replace(name, ".", `\.config\]\n.*?\n`, 1) + ` = `)
		if !settings.MatchString(enabled) {
			t.Errorf("config.toml does not have %s", name)
		}
	}
}

// explainedSettings are all settings of a container, by "plugin.key".
func explainedSettings(t *testing.T, config string) map[string]string {
	t.Helper()
	s := newSite(t, "")
	if err := os.WriteFile(s.config(), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	var explained []policy.Effective
	output := mustRun(t, program("policy", "explain", "--id", "x", "--config", s.config(), "--plugin-dir", binaries, "--json"))
	if err := json.Unmarshal([]byte(output), &explained); err != nil || len(explained) != 1 {
		t.Fatalf("%v: %s", err, output)
	}
	settings := map[string]string{}
	for _, p := range explained[0].Plugins {
		for _, setting := range p.Settings {
			settings[p.Name+"."+setting.Key] = string(setting.Value)
		}
	}
	return settings
}

// What is wrong with a plugin's binary is said with the file and what was expected; nothing is started.
func TestCheckPluginBinaries(t *testing.T) {
	s := newSite(t, both)
	dir := s.dir + "/plugins"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(text string, mode os.FileMode) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), mode) }
	}
	program := func(source string) func(string) error {
		return func(path string) error { return exec.Command("install", "-m", "755", source, path).Run() }
	}
	for _, test := range []struct {
		name   string
		make   func(path string) error
		sha256 string
		want   []string
	}{
		{"missing", func(string) error { return nil }, "", []string{"no such file", "build and install it"}},
		{"not executable", script("#!/bin/sh\n", 0o644), "", []string{"chmod"}},
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }, "", []string{"regular file"}},
		{"writable by others", func(path string) error {
			if err := os.WriteFile(path, nil, 0o755); err != nil {
				return err
			}
			return os.Chmod(path, 0o777)
		}, "", []string{"chmod"}},
		{"script", script("#!/bin/sh\necho hello\n", 0o755), "", []string{"it does not print a manifest"}},
		{"no plugin", program("/bin/echo"), "", []string{"does not print a manifest"}},
		{"another plugin", program(filepath.Join(binaries, "intercede-plugin-sysinfo")), "", []string{`"sysinfo"`}},
		{"fails", program("/bin/false"), "", []string{"exit status 1"}},
		{"checksum", script("#!/bin/sh\n", 0o755), strings.Repeat("ab", 32), []string{strings.Repeat("ab", 32), "sha256"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, "intercede-plugin-mknod")
			os.RemoveAll(path)
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			config := "[plugins.mknod]\npath = " + fmt.Sprintf("%q", path) + "\n"
			if test.sha256 != "" {
				config += fmt.Sprintf("sha256 = %q\n", test.sha256)
			}
			s.write(t, config)
			r := intercede(t, "check", "--config", s.config())
			if r.status != cli.ExitFailure {
				t.Errorf("status %d", r.status)
			}
			wantText(t, r.stderr, append(test.want, "plugins.mknod", path)...)
		})
	}
}

func TestPluginList(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n[plugins.other]\nenabled = false\n")
	r := intercede(t, "plugin", "list", "--config", s.config(), "--json")
	var plugins []listedPlugin
	if err := json.Unmarshal([]byte(r.stdout), &plugins); err != nil || r.status != 0 {
		t.Fatalf("status %d, %v: %s", r.status, err, r.stdout)
	}
	find := func(name string) listedPlugin {
		i := slices.IndexFunc(plugins, func(p listedPlugin) bool { return p.Name == name })
		if i < 0 {
			t.Fatalf("no %s in %s", name, r.stdout)
		}
		return plugins[i]
	}
	if p := find("mknod"); !p.Enabled || !slices.Equal(p.Syscalls, []string{"mknod", "mknodat"}) {
		t.Errorf("mknod: %+v", p)
	}
	if p := find("sysinfo"); p.Enabled || p.Error != "" || len(p.Capabilities) != 0 {
		t.Errorf("sysinfo: %+v", p)
	}
	if p := find("other"); p.Enabled || p.Error == "" {
		t.Errorf("other: %+v", p)
	}
	wantText(t, mustRun(t, program("plugin", "list", "--config", s.config())), "mknod,mknodat", "intercede-plugin-other")
}
