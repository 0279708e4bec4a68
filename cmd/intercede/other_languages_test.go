package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOtherLanguagesPage makes the plugin that the page has, from nothing but the page and plugin.proto, and has it
// serve.
func TestOtherLanguagesPage(t *testing.T) {
	require(t, "protoc", "/usr/bin/python3", "busybox")
	blocks := readPage(t, guide+"/other-languages.md")
	blocks[0].body = strings.Replace(blocks[0].body, "apt-get install", ": apt-get install", 1) // scripts/install-packages has them
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	proto, err := os.ReadFile("../../sdk/proto/plugin.proto")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plugin.proto"), proto, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", pageScript(blocks))
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+binaries+":"+os.Getenv("PATH"), "TMPDIR="+binaries)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	checkOutput(t, blocks, string(output))
	for _, line := range []string{`"warn"`, `"error"`, "WARN", "ERROR"} {
		if strings.Contains(string(output), line) {
			t.Errorf("the plugin's log has %s: %s", line, output)
		}
	}
}
