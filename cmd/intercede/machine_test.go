//go:build runtimes

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/machine"
)

// machinePatience is how long a script may take on a machine: many times what the longest does.
const machinePatience = 15 * time.Minute

// onMachine runs a script with bash on a machine of its own (internal/machine), with the prologue before it. It gives
// what that printed, and fails the test if it fails.
func onMachine(t *testing.T, script string) string {
	t.Helper()
	require(t, "unshare", "runc", "crun", "podman", "docker", "dockerd", "containerd", "ctr", "newuidmap", "jq", "busybox", "capsh")
	return machine.Run(t, newSources(t), mustRead(t, "testdata/tools")+mustRead(t, "testdata/prologue")+script, machinePatience)
}

func mustRead(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newSources makes a folder with the programs and the config.
func newSources(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	mustRun(t, exec.Command("sh", "-c", `mkdir "$2/bin" && ln "$1"/intercede* "$2/bin/" && cp ../../config.toml "$2/"`, "sh", binaries, dir))
	return dir
}

// installed is a script that makes a machine what the first page makes it.
func installed(t *testing.T) string {
	t.Helper()
	var script strings.Builder
	for _, b := range readPage(t, pages+"/README.md") {
		if b.kind == "sh" {
			script.WriteString(b.body)
		}
	}
	return script.String()
}
