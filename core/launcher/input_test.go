package launcher_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// binary makes a file in a folder of its own.
func binary(t *testing.T, name string, content []byte, mode fs.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "binary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBinaryRefused(t *testing.T) {
	sdktest.RequireRoot(t)
	script := []byte("#!/bin/sh\necho it ran\n")
	sum := sha256.Sum256(script)
	good := hex.EncodeToString(sum[:])
	for name, test := range map[string]struct {
		path func(t *testing.T) string
		sum  string
		want []string
	}{
		"missing": {func(t *testing.T) string { return "/nonexistent/intercede-plugin-x" }, "",
			[]string{"no such file", "build and install it"}},
		"not executable": {func(t *testing.T) string { return binary(t, "x", script, 0o644) }, "", []string{"not executable", "chmod +x"}},
		"a folder":       {func(t *testing.T) string { return t.TempDir() }, "", []string{"not a regular file"}},
		"a device":       {func(t *testing.T) string { return os.DevNull }, "", []string{"not a regular file"}},
		"a FIFO": {func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "x")
			if err := unix.Mkfifo(path, 0o755); err != nil {
				t.Fatal(err)
			}
			return path
		}, "", []string{"not a regular file"}},
		"writable by others": {func(t *testing.T) string { return binary(t, "x", script, 0o757) }, "", []string{"0757", "chmod go-w"}},
		"writable by its group": {func(t *testing.T) string {
			path := binary(t, "x", script, 0o775)
			if err := os.Chown(path, 0, 12345); err != nil {
				t.Fatal(err)
			}
			return path
		}, "", []string{"0775", "chmod go-w"}},
		"owned by another": {func(t *testing.T) string {
			path := binary(t, "x", script, 0o755)
			if err := os.Chown(path, 12345, 0); err != nil {
				t.Fatal(err)
			}
			return path
		}, "", []string{"user 12345", "want root"}},
		"in a folder of another": {func(t *testing.T) string {
			path := binary(t, "x", script, 0o755)
			if err := os.Chown(filepath.Dir(path), 12345, 0); err != nil {
				t.Fatal(err)
			}
			return path
		}, "", []string{"folder", "user 12345"}},
		"in a writable folder": {func(t *testing.T) string {
			path := binary(t, "x", script, 0o755)
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			return path
		}, "", []string{"folder", "0777"}},
		"a link into a writable folder": {func(t *testing.T) string {
			path := binary(t, "x", script, 0o755)
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			return link
		}, "", []string{"folder", "0777"}},
		"another sum": {func(t *testing.T) string { return binary(t, "x", append(script, '\n'), 0o755) }, good, []string{"sha256 is ", good}},
		"no sum":      {func(t *testing.T) string { return binary(t, "x", script, 0o755) }, "zz", []string{"sha256 is " + good, "zz"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := launcher.Spec{Name: "x", Path: test.path(t), SHA256: test.sum}
			_, err := launcher.ReadManifest(t.Context(), spec)
			checkError(t, err, append(test.want, spec.Path)...)
		})
	}
}

func checkError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func TestSumAccepted(t *testing.T) {
	sdktest.RequireRoot(t)
	path := testplugin.Install(t, "trial")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	spec := launcher.Spec{Name: "trial", Path: path, SHA256: strings.ToUpper(hex.EncodeToString(sum[:]))}
	if _, err := launcher.ReadManifest(t.Context(), spec); err != nil {
		t.Error(err)
	}
}

func TestManifestRefused(t *testing.T) {
	sdktest.RequireRoot(t)
	for name, want := range map[string][]string{
		"bad_garbage": {"does not print a manifest", "is it a plugin of intercede?"},
		"bad_endless": {"manifest"},
		"bad_status":  {"exit status 9", "no such luck"},
		"bad_name":    {`is the plugin "another"`, "name it so in the config"},
	} {
		t.Run(name, func(t *testing.T) {
			path := testplugin.Install(t, name)
			_, err := launcher.ReadManifest(t.Context(), specOf(path))
			checkError(t, err, append(want, path)...)
			if len(err.Error()) > 4096 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
	chdir := func(read string) string {
		return `{"name":"x","version":"1","on_failure":{"continue":true},"syscalls":[{"name":"chdir","reads":[` + read + `]}]}`
	}
	for name, content := range map[string]string{
		"unknown field":  `{"name":"x","version":"1","color":"red"}`,
		"no syscalls":    `{"name":"x","version":"1","on_failure":{"continue":true}}`,
		"read too large": chdir(`{"arg":0,"string":{"max":2000000}}`),
		"seventh arg":    chdir(`{"arg":6,"struct":{"size":1}}`),
		"nothing":        ``,
	} {
		t.Run(name, func(t *testing.T) {
			path := binary(t, "x", []byte("#!/bin/sh\necho '"+content+"'\n"), 0o755)
			_, err := launcher.ReadManifest(t.Context(), launcher.Spec{Name: "x", Path: path})
			checkError(t, err, path)
			if strings.Contains(err.Error(), "exit status") {
				t.Errorf("it did not print anything: %v", err)
			}
		})
	}
}

// TestManifestHangs checks that neither a program that does not end keeps the broker, nor one whose child does not,
// that nothing of them is left, and that the log says what is waited for.
func TestManifestHangs(t *testing.T) {
	sdktest.RequireRoot(t)
	defer launcher.SetSlowAfter(time.Millisecond)()
	for name, fails := range map[string]bool{"bad_hang": true, "bad_orphan": true} {
		t.Run(name, func(t *testing.T) {
			path, log := testplugin.Install(t, name), make(lines, 1)
			ctx, cancel := context.WithTimeout(zerolog.New(log).WithContext(t.Context()), 2*time.Second)
			defer cancel()
			_, err := launcher.ReadManifest(ctx, specOf(path))
			if (err != nil) != fails {
				t.Fatalf("got %v", err)
			}
			if name == "bad_hang" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			eventually(t, "nothing of it is left", func() bool { return running("bad_") == 0 })
			if name != "bad_hang" {
				return
			}
			if line := <-log; !strings.Contains(line, "still waiting for its manifest") {
				t.Errorf("the log says %q", line)
			}
		})
	}
}

// lines is a log's writer.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// running counts the processes whose argv[0] has the text.
func running(text string) int {
	n := 0
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file)
		name, _, _ := strings.Cut(string(line), "\x00")
		if strings.Contains(name, "intercede-plugin-"+text) {
			n++
		}
	}
	return n
}

// TestStartRefused starts programs whose manifest is good and that are not good plugins.
func TestStartRefused(t *testing.T) {
	sdktest.RequireRoot(t)
	os.Remove(testplugin.ForeignPath) // a test that was killed left it
	for _, address := range []string{testplugin.ForeignSocket, testplugin.ForeignPath} {
		foreign, err := net.Listen("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			foreign.(*net.UnixListener).SetDeadline(time.Now().Add(100 * time.Millisecond)) // one that waits is taken at once
			if _, err := foreign.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the broker connected to %s, which is not the plugin's: %v", address, err)
			}
			foreign.Close()
		})
	}
	for name, want := range map[string][]string{
		"bad_version":  {"speaks version 99 of the plugin protocol, and this intercede version 1", "upgrade intercede"},
		"bad_address":  {testplugin.ForeignSocket, "want a socket in its own folder"},
		"bad_link":     {"connect"},
		"bad_tcp":      {"127.0.0.1:1", "want a socket in its own folder"},
		"bad_silent":   {"plugin"},
		"bad_changing": {"another manifest", "intercede reload"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := specOf(testplugin.Install(t, name))
			manifest, err := launcher.ReadManifest(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			_, err = launcher.Start(t.Context(), spec, manifest, zerolog.Nop())
			checkError(t, err, append(want, name)...)
			eventually(t, "nothing of it is left", func() bool { return running(name) == 0 })
		})
	}
}

// TestStartGivenUp starts a program that says nothing, until the context ends.
func TestStartGivenUp(t *testing.T) {
	sdktest.RequireRoot(t)
	path := testplugin.Install(t, "bad_hang")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := launcher.Start(ctx, specOf(path), &wire.Manifest{}, zerolog.Nop()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	eventually(t, "nothing of it is left", func() bool { return running("bad_hang") == 0 })
}

// TestStartSaysWhy starts a plugin that ends before it serves: the error is what its process said.
func TestStartSaysWhy(t *testing.T) {
	sdktest.RequireRoot(t)
	spec := specOf(testplugin.Install(t, "trial"))
	manifest, err := launcher.ReadManifest(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	manifest.Capabilities = []string{"CAP_SYSCHROOT"}
	p, err := launcher.Start(t.Context(), spec, manifest, zerolog.Nop())
	if err == nil {
		p.Stop()
	}
	if err == nil || !strings.Contains(err.Error(), `ended before it served: starting a plugin: capability "CAP_SYSCHROOT"`) {
		t.Errorf("got %v", err)
	}
}
