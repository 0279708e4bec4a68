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
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, folder := range []string{"machine", "sources/bin"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustRun(t, exec.Command("sh", "-c", `ln "$1"/intercede* "$2/bin/" && cp ../../config.toml "$2/"`, "sh", binaries, dir+"/sources"))
	// An engine that is left behind keeps the output open: it is a file.
	output, err := os.Create(dir + "/output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	text := "exec 2>&1\n" + string(prologue) + script
	if err := os.WriteFile(dir+"/script", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), machinePatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "testdata/machine", filepath.Base(dir), dir+"/machine", dir+"/sources", dir+"/script")
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
	for _, b := range readPage(t, "README.md") {
		script.WriteString(b.script)
	}
	return script.String()
}
