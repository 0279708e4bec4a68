//go:build runtimes

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machinePatience is how long a script may take on a machine: many times what the longest does.
const machinePatience = 5 * time.Minute

// onMachine runs a script with bash on a machine of its own (testdata/machine), with the prologue before it. It gives
// what it printed, and fails the test if it fails.
func onMachine(t *testing.T, script string) string {
	t.Helper()
	require(t, "unshare", "runc", "crun", "podman", "docker", "dockerd", "containerd", "ctr", "newuidmap", "jq", "busybox", "capsh")
	prologue, err := os.ReadFile("testdata/prologue")
	if err != nil {
		t.Fatal(err)
	}
	return bootMachine(t, newSources(t), string(prologue)+script)
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

// bootMachine has the first process of a machine be bash with the script. The sources are its /src.
func bootMachine(t *testing.T, sources, script string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(dir+"/machine", 0o755); err != nil {
		t.Fatal(err)
	}
	// An engine that is left behind keeps the output open: it is a file.
	output, err := os.Create(dir + "/output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	if err := os.WriteFile(dir+"/script", []byte("exec 2>&1\n"+script), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machinePatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "testdata/machine", filepath.Base(dir), dir+"/machine", sources, dir+"/script")
	cmd.Stdin = strings.NewReader("") // a pipe, not the host's /dev/null: see testdata/machine
	cmd.Stdout, cmd.Stderr = output, output
	failure := cmd.Run()
	removeCgroups(t, filepath.Base(dir))
	printed, err := os.ReadFile(dir + "/output")
	if err != nil {
		t.Fatal(err)
	}
	if failure != nil {
		t.Fatalf("%v\n%s", failure, printed)
	}
	return string(printed)
}

// removeCgroups removes the cgroups below those of a machine that has ended.
func removeCgroups(t *testing.T, machine string) {
	t.Helper()
	eventually(t, "the machine's cgroups can be removed", func() bool {
		left, err := filepath.Glob("/sys/fs/cgroup/*/" + machine)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return true
		}
		exec.Command("find", append(left, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")...).Run() // fails while one is busy
		return false
	})
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
