package limit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// parents returns where groups with the controller can be made, by versions of cgroups: "devices" has no name in 2.
func parents(t *testing.T, controller string) map[int]string {
	t.Helper()
	require.Root(t)
	folders, err := cgroup.OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	if own := OwnV1(folders, controller); own != nil {
		found[1] = own.Path
	}
	if own := OwnV2(folders); own != nil && controller == "devices" {
		found[2] = own.Path
	} else if own != nil && found[1] == "" {
		if found[2], err = DelegatedParent(*own, controller); err != nil {
			require.Lacking(t, "needs a hierarchy of cgroups for %q: %v", controller, err)
		}
	}
	if len(found) == 0 {
		require.Lacking(t, "needs a hierarchy of cgroups for %q", controller)
	}
	return found
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
	for version, parent := range parents(t, "devices") {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			allow := (*Group).AllowDevices
			if version == 1 {
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
	for _, parent := range parents(t, "pids") {
		g := makeLocked(t, parent)
		if err := g.LimitTasks(3); err != nil {
			t.Fatal(err)
		}
		if got := run(t, g, strings.Repeat("sleep 60 >/dev/null 2>&1 &\n", 4)); !strings.Contains(got, "fork") {
			t.Errorf("got %q", got)
		}
	}
}

// TestStale has two makers, of which one is gone: what it left is killed and removed.
func TestStale(t *testing.T) {
	for version, parent := range parents(t, "devices") {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
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

// TestDelegatedParent has folders instead of cgroups.
func TestDelegatedParent(t *testing.T) {
	require.Root(t)
	for name, test := range map[string]struct {
		own, top    string
		isRoot      bool
		isDelegated string // this folder is
		want        string // "": none
		moves       bool
	}{
		"the root":                        {own: "", top: "", isRoot: true, want: "."},
		"a unit":                          {own: "unit", top: ""},
		"all that it sees":                {own: "unit", top: "unit", want: "unit", moves: true},
		"delegated":                       {own: "unit", top: "", isDelegated: "unit", want: "unit", moves: true},
		"a subgroup":                      {own: "unit/sub", top: "", isDelegated: "unit", want: "unit"},
		"it has moved":                    {own: "unit/" + leafName, top: "", want: "unit"},
		"a subgroup of what is delegated": {own: "unit/sub/sub", top: "", isDelegated: "unit"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			at := func(path ...string) string { return filepath.Join(append([]string{root}, path...)...) }
			if err := os.MkdirAll(at("unit/sub/sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{"unit", test.own, test.want} {
				os.MkdirAll(at(dir), 0o755)
				if err := os.WriteFile(at(dir, "cgroup.subtree_control"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if !test.isRoot {
				if err := os.WriteFile(at(test.own, "cgroup.type"), []byte("domain\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if test.isDelegated != "" {
				if err := unix.Setxattr(at(test.isDelegated), "trusted.delegate", []byte("1"), 0); err != nil {
					t.Fatal(err)
				}
			}
			got, err := DelegatedParent(cgroup.Folder{Path: at(test.own), Top: at(test.top)}, "memory")
			if test.want == "" {
				if !errors.Is(err, ErrNotDelegated) {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if err != nil || got != at(test.want) {
				t.Fatalf("%q, %v; want %q", got, err, test.want)
			}
			if text, err := os.ReadFile(filepath.Join(got, "cgroup.subtree_control")); string(text) != "+memory" || err != nil {
				t.Errorf("controllers %q, %v", text, err)
			}
			moved, err := os.ReadFile(at(test.own, leafName, "cgroup.procs"))
			if (string(moved) == strconv.Itoa(os.Getpid())) != test.moves {
				t.Errorf("moved %q, %v", moved, err)
			}
		})
	}
}
