//go:build runtimes

package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/internal/machine"
)

// TestSystemd runs the units of deploy/systemd under a real systemd, the first process of a machine of its own: a
// container's calls are answered whatever ends the daemon.
func TestSystemd(t *testing.T) { underSystemd(t, "testdata/systemd-test") }

// underSystemd has systemd run a script as a unit, which finds the programs and units in /src, and further
// files. It gives what the script printed.
func underSystemd(t *testing.T, script string, files ...string) string {
	t.Helper()
	require(t, "busybox")
	sources := newSources(t)
	units, err := filepath.Glob("../../deploy/systemd/*")
	if err != nil || len(units) == 0 {
		t.Fatalf("the units: %v", err)
	}
	files = append(append(files, units...), "testdata/box", "../../deploy/kubernetes/intercede-node")
	mustRun(t, exec.Command("cp", append(files, sources)...))
	mustRun(t, exec.Command("cp", script, sources+"/test"))
	machine.Systemd(t, sources, machinePatience)
	return mustRun(t, exec.Command("cat", sources+"/output"))
}
