//go:build runtimes

package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/internal/machine"
)

// TestSystemd runs the units of deploy/systemd under a real systemd, the first process of a machine of its own: a
// container's calls are answered whatever ends the daemon. The script runs as a unit.
func TestSystemd(t *testing.T) {
	require(t, "busybox")
	sources := newSources(t)
	units, err := filepath.Glob("../../deploy/systemd/*")
	if err != nil || len(units) == 0 {
		t.Fatalf("the units: %v", err)
	}
	mustRun(t, exec.Command("cp", append(units, sources)...))
	mustRun(t, exec.Command("cp", "testdata/systemd-test", sources+"/test"))
	t.Log(machine.Systemd(t, sources, machinePatience))
}
