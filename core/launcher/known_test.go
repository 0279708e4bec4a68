package launcher_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestKnownManifests changes what is kept of a program, to see whether that or the program is asked.
func TestKnownManifests(t *testing.T) {
	sdktest.RequireRoot(t)
	spec := specOf(testplugin.Install(t, "trial"))
	known := launcher.KnownIn(t.TempDir())
	description := func() string {
		t.Helper()
		manifest, err := known.Read(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return manifest.GetDescription()
	}
	touched := time.Now()
	must(t, os.Chmod(spec.Path, 0o755))
	printed := description()
	if paths := known.Files(); len(paths) > 0 && time.Since(touched) < launcher.SettledAfter {
		t.Fatalf("%q is kept of a program that was changed just now, and may change again in the same tick", paths)
	}
	time.Sleep(launcher.SettledAfter + 100*time.Millisecond)
	description()
	files := known.Files()
	if len(files) != 1 {
		t.Fatalf("%q is kept", files)
	}
	change(t, files[0], func(text []byte) []byte { return bytes.Replace(text, []byte(printed), []byte("from the folder"), 1) })
	if got := description(); got != "from the folder" {
		t.Errorf("the program is asked: %q", got)
	}
	for name, spoil := range map[string]func(){
		"touched": func() {
			if err := os.Chmod(spec.Path, 0o755); err != nil { // its ctime
				t.Fatal(err)
			}
		},
		"not JSON":  func() { write(t, files[0], []byte("{"), 0o600) },
		"nothing":   func() { change(t, files[0], func([]byte) []byte { return nil }) },
		"else's":    func() { must(t, os.Chown(files[0], 1000, 1000)) },
		"writable":  func() { must(t, os.Chmod(files[0], 0o666)) },
		"a FIFO":    func() { must(t, os.Remove(files[0])); must(t, unix.Mkfifo(files[0], 0o600)) },
		"forgotten": func() { must(t, known.Forget()) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.RemoveAll(filepath.Dir(files[0])))
			time.Sleep(launcher.SettledAfter + 100*time.Millisecond)
			description()
			change(t, files[0], func(text []byte) []byte { return bytes.Replace(text, []byte(printed), []byte("from the folder"), 1) })
			spoil()
			if got := description(); got != printed {
				t.Errorf("%q", got)
			}
		})
	}
}

// change changes what a kept file says that the program has printed.
func change(t *testing.T, path string, edit func([]byte) []byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	var kept map[string]json.RawMessage
	must(t, json.Unmarshal(text, &kept))
	var printed []byte
	must(t, json.Unmarshal(kept["printed"], &printed))
	kept["printed"], err = json.Marshal(edit(printed))
	must(t, err)
	text, err = json.Marshal(kept)
	must(t, err)
	write(t, path, text, 0o600)
}

func write(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	must(t, os.WriteFile(path, text, mode))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
