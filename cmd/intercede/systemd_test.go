//go:build runtimes

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemd runs the units of deploy/systemd under a real systemd, the first process of a machine of its own: a
// container's calls are answered whatever ends the daemon. The script is run by testdata/systemd as a unit.
func TestSystemd(t *testing.T) {
	require(t, "systemctl", "unshare", "busybox")
	sources := newSources(t)
	units, err := filepath.Glob("../../deploy/systemd/*")
	if err != nil || len(units) == 0 {
		t.Fatalf("the units: %v", err)
	}
	mustRun(t, exec.Command("cp", append(units, sources)...))
	mustRun(t, exec.Command("cp", "testdata/systemd-test", sources+"/test"))
	boot, err := os.ReadFile("testdata/systemd")
	if err != nil {
		t.Fatal(err)
	}
	printed := bootMachine(t, sources, string(boot))
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(sources, name))
		if err != nil {
			t.Logf("%v\n%s", err, printed)
		}
		return string(text)
	}
	t.Log(read("output"))
	if result := strings.TrimSpace(read("result")); result != "success" {
		t.Errorf("the script failed: %s\n%s", result, read("journal"))
	}
}
