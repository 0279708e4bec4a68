// Package machine boots machines made of namespaces, for tests as root: with the host's files, on which nothing is
// changed, and an end at which every process is gone.
package machine

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/require"
)

//go:embed boot
var boot string

//go:embed systemd
var systemd string

// Run has the first process of a machine be bash with the script, for the time at most. The folder sources is /src
// there. It gives what the script printed, and fails the test if the script fails.
func Run(t testing.TB, sources, script string, atMost time.Duration) string {
	t.Helper()
	needs(t, "bash", "unshare")
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// What is left behind on the machine keeps the output open: it is a file.
	output, err := os.Create(dir + "/output")
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	err = errors.Join(os.Mkdir(dir+"/machine", 0o755), os.WriteFile(dir+"/boot", []byte(boot), 0o644),
		os.WriteFile(dir+"/script", []byte("exec 2>&1\n"+script), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", dir+"/boot", filepath.Base(dir), dir+"/machine", sources, dir+"/script")
	cmd.Stdin = strings.NewReader("") // a pipe, not the host's /dev/null: see boot
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

// Systemd has the first process of a machine be systemd, which runs the file test of the folder sources with bash, as a
// unit. It logs what that prints, and fails the test if it fails.
func Systemd(t testing.TB, sources string, atMost time.Duration) {
	t.Helper()
	needs(t, "systemctl")
	read := func(name string) string {
		text, _ := os.ReadFile(filepath.Join(sources, name)) // there is none if systemd did not come so far
		return string(text)
	}
	defer func() { t.Log(read("output")) }()
	console := Run(t, sources, systemd, atMost)
	if result := strings.TrimSpace(read("result")); result != "success" {
		t.Errorf("the test failed: %s\n%s\n%s", result, console, read("journal"))
	}
}

func needs(t testing.TB, programs ...string) {
	t.Helper()
	require.Root(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			require.Lacking(t, "%s is not installed: run scripts/install-packages", p)
		}
	}
}

// removeCgroups removes the cgroups of a machine that has ended. Processes that were killed leave them late.
func removeCgroups(t testing.TB, name string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the machine's cgroups cannot be removed: %q", left)
		}
		exec.Command("find", append(left, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")...).Run() // fails while one is busy
	}
}
