package run_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) {
	run.Init()
	if os.Getenv(launcherMark) != "" {
		launcherMain()
	}
	os.Exit(m.Run())
}

// launcherMark makes the test binary a program of its own, which starts one container: see launcher.
const launcherMark = "INTERCEDE_TEST_LAUNCHER"

// launcher runs launcherMain in another process.
func launcher(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	sdktest.RequireRoot(t)
	command := exec.Command("/proc/self/exe", script)
	command.Env = append(os.Environ(), launcherMark+"=1")
	return command
}

// launcherMain starts a container with the script of its argument, prints the init's process id, and waits.
func launcherMain() {
	container, err := run.Start(context.Background(), run.Options{Args: shell(os.Args[1])})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(container.InitPID())
	status, _ := container.Wait()
	container.Close()
	os.Exit(status)
}

// result is what a finished container left.
type result struct {
	status         int
	stdout, stderr string
}

// start starts a container that is closed at the end of the test, with its listener: a file that nobody closes is
// closed by the garbage collector, while another test counts descriptors.
func start(t *testing.T, options run.Options) *run.Container {
	t.Helper()
	sdktest.RequireRoot(t)
	container, err := run.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("start %q: %v", options.Args, err)
	}
	t.Cleanup(func() {
		if err := container.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		container.Listener().Close() // nil too
	})
	return container
}

// capture returns a file to give to a container, and a function that returns what was written to it when no writer is
// left.
func capture(t *testing.T) (*os.File, func() string) {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	text := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(reader)
		reader.Close()
		text <- string(data)
	}()
	return writer, func() string {
		writer.Close()
		return <-text
	}
}

// finish runs a container to its end.
func finish(t *testing.T, options run.Options) result {
	t.Helper()
	stdout, readStdout := capture(t)
	stderr, readStderr := capture(t)
	options.Stdout, options.Stderr = stdout, stderr
	container := start(t, options)
	status, err := container.Wait()
	if err != nil {
		t.Fatalf("wait for %q: %v", options.Args, err)
	}
	return result{status: status, stdout: readStdout(), stderr: readStderr()}
}

// output is finish for a command that must succeed silently.
func output(t *testing.T, options run.Options) string {
	t.Helper()
	got := finish(t, options)
	if got.status != 0 || got.stderr != "" {
		t.Fatalf("%q: status %d, stderr %q, stdout %q", options.Args, got.status, got.stderr, got.stdout)
	}
	return got.stdout
}

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

// smallRootfs makes a root filesystem with a shell and a few tools of the host, and the libraries they need.
func smallRootfs(t *testing.T) string {
	t.Helper()
	sdktest.RequireRoot(t)
	dir := t.TempDir()
	for _, tool := range []string{"sh", "ls", "cat", "stat", "id", "touch", "mkdir", "chown", "mount", "umount"} {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		copyFile(t, path, filepath.Join(dir, "bin", tool))
		for _, library := range libraries(t, path) {
			copyFile(t, library, filepath.Join(dir, library))
		}
	}
	return dir
}

// libraries returns the absolute paths that ldd(1) prints.
func libraries(t *testing.T, path string) []string {
	t.Helper()
	text, err := exec.Command("ldd", path).Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var found []string
	for word := range strings.FieldsSeq(string(text)) {
		if filepath.IsAbs(word) {
			found = append(found, word)
		}
	}
	return found
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func statFile(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	return stat
}

// startError is the error of a container that must not start.
func startError(t *testing.T, options run.Options) error {
	t.Helper()
	sdktest.RequireRoot(t)
	container, err := run.Start(context.Background(), options)
	if err == nil {
		container.Close()
		t.Fatalf("%q started", options.Args)
	}
	return err
}
