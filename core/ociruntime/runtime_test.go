package ociruntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/policy/config"
)

func TestFindRuntime(t *testing.T) {
	dir := t.TempDir()
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"runtime": 0o755, "data": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(own, dir+"/self"); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ runtime, want, fault string }{
		"a name":           {"runtime", dir + "/runtime", ""},
		"a path":           {dir + "/runtime", dir + "/runtime", ""},
		"a missing name":   {"nothing", "", "not installed in /nowhere, " + dir},
		"a missing path":   {"/nowhere/runc", "", "no such file"},
		"not executable":   {"data", "", "permission denied"},
		"itself":           {own, "", "is intercede itself"},
		"a link to itself": {"self", "", "is intercede itself"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findRuntime(test.runtime, []string{"/nowhere", dir})
			if test.fault == "" && (err != nil || got != test.want) ||
				test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestReadSettings(t *testing.T) {
	defaults := settings{runtime: "runc", onMissing: config.MissingFail}
	for name, test := range map[string]struct {
		text    string
		mode    os.FileMode
		runtime string // of the command line
		want    settings
		fault   string
	}{
		"empty": {"", 0o644, "", settings{"/run/intercede/control.sock", "runc", "fail", false}, ""},
		"given": {"[broker]\ncontrol = \"/c\"\n[oci_runtime]\nruntime = \"/usr/bin/crun\"\non_missing = \"plain\"\nmount_dev = true\n", 0o644,
			"", settings{"/c", "/usr/bin/crun", "plain", true}, ""},
		"the command line": {"[oci_runtime]\nruntime = \"crun\"\n", 0o644, "youki",
			settings{"/run/intercede/control.sock", "youki", "fail", false}, ""},
		"others' mistakes": {"[broker]\nrate = -1\n[plugins.mknod]\nenable = true\n[oci_runtime]\nruntime = \"crun\"\n", 0o644,
			"", settings{"/run/intercede/control.sock", "crun", "fail", false}, ""},
		"its own mistakes":     {"[oci_runtime]\non_missing = \"plane\"\nruntime = \"crun\"\n", 0o644, "", defaults, "oci_runtime.on_missing"},
		"a bad admin socket":   {"[broker]\ncontrol = \"c\"\n", 0o644, "", defaults, "broker.control"},
		"no TOML":              {"[oci_runtime", 0o644, "", defaults, "not TOML"},
		"writable by a group":  {"[oci_runtime]\nruntime = \"/tmp/evil\"\n", 0o664, "", defaults, "chmod"},
		"no TOML, but a flag":  {"[oci_runtime", 0o644, "crun", settings{runtime: "crun", onMissing: "fail"}, "not TOML"},
		"a table of the wrong": {"oci_runtime = 1\n", 0o644, "", defaults, "oci_runtime"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			got, err := readSettings(Options{Config: path, Runtime: test.runtime})
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
				t.Errorf("error %v, want %q", err, test.fault)
			}
		})
	}
}

func TestLogLine(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	for format, want := range map[string]string{
		"json": `{"level":"error","msg":"a \"b\"","time":"2026-01-02T03:04:05Z"}` + "\n",
		"text": `time="2026-01-02T03:04:05Z" level=error msg="a \"b\""` + "\n",
		"":     `time="2026-01-02T03:04:05Z" level=error msg="a \"b\""` + "\n",
	} {
		t.Run(format, func(t *testing.T) {
			if got := logLine(format, "error", `a "b"`, now); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestLogFile(t *testing.T) {
	for log, want := range map[string]string{
		"": "", "/l": "/l", "file:/l": "/l", "file:": "", "journald:x": "", "syslog:x": "",
	} {
		t.Run(log, func(t *testing.T) {
			c := command{logTo: log}
			if got, ok := c.logFile(); got != want || ok != (want != "") {
				t.Errorf("%q, %t; want %q", got, ok, want)
			}
		})
	}
}
