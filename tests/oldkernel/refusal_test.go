package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

// TestTooOld has each command say which kernel it needs, in one line.
func TestTooOld(t *testing.T) {
	require.Root(t)
	const needs = " needs kernel 5.15 or later, and this is "
	for _, command := range []string{
		"run -- true", "serve", "keep -- true", "check", "reload", "upgrade", "status", "why 1", "trace", "revoke x", "policy explain x",
		"profile --format oci", "plugin list", "plugin run x -- true", "plugin test x",
	} {
		t.Run(command, func(t *testing.T) {
			output, err := oldIntercede("5.10", command)
			name, _, _ := strings.Cut(command, " ")
			if err == nil || !strings.HasPrefix(output, "intercede: intercede "+name) || !strings.Contains(output, needs) ||
				strings.Count(output, "\n") != 1 {
				t.Errorf("%v: %s", err, output)
			}
		})
	}
	for _, command := range []string{"version", "completion bash", "run --help", "help"} {
		if output, err := oldIntercede("5.10", command); err != nil {
			t.Errorf("%s: %v: %s", command, err, output)
		}
	}
	if output, err := oldIntercede("5.10", "doctor"); err == nil || strings.Contains(output, needs) {
		t.Errorf("doctor: %v: %s", err, output)
	}
}

// TestOldest runs a container as on the oldest kernel.
func TestOldest(t *testing.T) {
	require.Root(t)
	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte("[plugins.mknod]\ngrant = \"manifest\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	output, err := oldIntercede("5.15", "run --config "+config+" --plugin-dir "+stage.Production+" -- mknod /tmp/null c 1 3")
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

func oldIntercede(version, command string) (string, error) {
	arguments := append([]string{version, filepath.Join(stage.Production, "intercede")}, strings.Fields(command)...)
	output, err := exec.Command("/proc/self/exe", arguments...).CombinedOutput()
	return string(output), err
}
