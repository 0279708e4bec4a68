package limit

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

func TestLimitMemory(t *testing.T) {
	for name, test := range map[string]struct {
		version int
		files   map[string]string
	}{
		"v1":              {1, map[string]string{"memory.limit_in_bytes": "1000", "memory.memsw.limit_in_bytes": "2000"}},
		"v1 without swap": {1, map[string]string{"memory.limit_in_bytes": "1000"}},
		"v2":              {2, map[string]string{"memory.max": "1000", "memory.swap.max": "1000"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &Group{Dir: t.TempDir()}
			for name := range test.files {
				if err := os.WriteFile(filepath.Join(g.Dir, name), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := g.LimitMemory(test.version, 1000); err != nil {
				t.Fatal(err)
			}
			for name, want := range test.files {
				if got, err := os.ReadFile(filepath.Join(g.Dir, name)); string(got) != want || err != nil {
					t.Errorf("%s: %q, %v; want %q", name, got, err, want)
				}
			}
		})
	}
}

// own returns the folder of this test's cgroup of version 2, for a controller of none, or of version 1.
func own(t *testing.T, controller string) string {
	t.Helper()
	require.Root(t)
	folders, err := cgroup.OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	if controller == "" {
		if folder := OwnV2(folders); folder != nil {
			return folder.Path
		}
	} else if folder := OwnV1(folders, controller); folder != nil {
		return folder.Path
	}
	require.Lacking(t, "needs a hierarchy of cgroups for %q", controller)
	return ""
}

// run runs a shell script in the cgroup, and returns what it writes.
func run(t *testing.T, g *Group, script string) string {
	t.Helper()
	// The shell joins by itself, so that it is in the cgroup from then on.
	command := exec.Command("/bin/sh", "-c", "echo 0 >"+g.Dir+"/cgroup.procs; "+script)
	out, _ := command.CombinedOutput()
	return string(out)
}

const testPrefix = "intercede-limit-test-"

func makeLocked(t *testing.T, parent string) *Group {
	t.Helper()
	g, err := MakeLocked(parent, testPrefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Remove(), g.Close()); err != nil {
			t.Error(err)
		}
	})
	return g
}

// TestDevices opens and makes device nodes in cgroups that allow some.
func TestDevices(t *testing.T) {
	dir := t.TempDir()
	script := func(text string) string { return strings.ReplaceAll(text, "DIR", dir) }
	for version, controller := range map[string]string{"version 1": "devices", "version 2": ""} {
		t.Run(version, func(t *testing.T) {
			parent := own(t, controller)
			allow := (*Group).AllowDevices
			if controller != "" {
				allow = (*Group).AllowDevicesV1
			}
			for rules, want := range map[string]string{
				"":                  "",
				"c 1:3 r":           "read\n",
				"c 1:3 w":           "write\n",
				"c 1:* rw,b *:* rm": "read\nwrite\nblock\n",
				"c *:* m":           "char\n",
			} {
				g := makeLocked(t, parent)
				parsed, err := device.ParseRules(strings.FieldsFunc(rules, func(r rune) bool { return r == ',' }))
				if err != nil {
					t.Fatal(err)
				}
				if err := allow(g, parsed); err != nil {
					t.Fatal(err)
				}
				got := run(t, g, script(`exec 2>&-
					true </dev/null && echo read
					true >/dev/null && echo write
					mknod DIR/char c 240 1 && echo char
					mknod DIR/block b 240 1 && echo block
					rm -f DIR/char DIR/block`))
				if got != want {
					t.Errorf("rules %q: %q, want %q", rules, got, want)
				}
			}
		})
	}
}

func TestTasks(t *testing.T) {
	g := makeLocked(t, own(t, "pids"))
	if err := g.LimitTasks(3); err != nil {
		t.Fatal(err)
	}
	if got := run(t, g, strings.Repeat("sleep 60 >/dev/null 2>&1 &\n", 4)); !strings.Contains(got, "fork") {
		t.Errorf("got %q", got)
	}
}

// TestStale has two makers, of which one is gone: what it left is killed and removed.
func TestStale(t *testing.T) {
	for version, controller := range map[string]string{"version 1": "pids", "version 2": ""} {
		t.Run(version, func(t *testing.T) {
			parent := own(t, controller)
			kept := makeLocked(t, parent)
			left, err := MakeLocked(parent, testPrefix)
			if err != nil {
				t.Fatal(err)
			}
			sleep := exec.Command("/bin/sleep", "60")
			if err := sleep.Start(); err != nil {
				t.Fatal(err)
			}
			if err := left.Add(sleep.Process.Pid); err != nil {
				t.Fatal(err)
			}
			RemoveStale(parent, testPrefix)
			if _, err := os.Stat(left.Dir); err != nil {
				t.Fatalf("one that is in use: %v", err)
			}
			if err := left.Close(); err != nil {
				t.Fatal(err)
			}
			RemoveStale(parent, testPrefix)
			if err := sleep.Wait(); err == nil {
				t.Error("the process in it was not killed")
			}
			RemoveStale(parent, testPrefix)
			if _, err := os.Stat(left.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("one that is not in use: %v", err)
			}
			if _, err := os.Stat(kept.Dir); err != nil {
				t.Errorf("one that is in use: %v", err)
			}
		})
	}
}

// TestDelegatedParent has folders in the place of cgroups.
func TestDelegatedParent(t *testing.T) {
	root := t.TempDir()
	for path, enabled := range map[string]string{
		"":                        "",
		"unit":                    "",
		"unit/leaf":               "",
		"enabled":                 "cpu memory",
		"moved":                   "",
		"moved/intercede-broker":  "",
		"delegated":               "",
		"delegated/intercede-sub": "",
	} {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(enabled), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(root, "delegated"), "user.delegate", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	for own, want := range map[string]string{
		"": "", "unit": "unit", "enabled": "enabled", "moved/intercede-broker": "moved", "delegated/intercede-sub": "delegated",
		"delegated": "delegated",
	} {
		got, err := DelegatedParent(cgroup.Folder{Path: filepath.Join(root, own), Top: root}, "memory")
		if got != filepath.Join(root, want) || err != nil {
			t.Errorf("%q: %q, %v; want %q", own, got, err, want)
		}
		text, err := os.ReadFile(filepath.Join(root, want, "cgroup.subtree_control"))
		if !strings.HasSuffix(string(text), "memory") || err != nil {
			t.Errorf("%q: controllers %q, %v", want, text, err)
		}
	}
}
