package kernels

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// payload is what the machines run, of this tree: the project's package, and the tests' binaries with their folders.
type payload struct{ dir string }

// sources is the folder of the tree.
const sources = "../.."

func newPayload(t *testing.T, tests []string, limit time.Duration) payload {
	t.Helper()
	p := payload{t.TempDir()}
	if err := os.MkdirAll(filepath.Join(p.dir, "tests"), 0o755); err != nil {
		t.Fatal(err)
	}
	packages := t.TempDir()
	run(t, "env", "--chdir", sources, "scripts/package", "0.1.0", packages, "deb")
	move(t, filepath.Join(packages, "*.deb"), filepath.Join(p.dir, "intercede.deb"))
	var list strings.Builder
	for _, folder := range tests {
		name := strings.ReplaceAll(folder, "/", "_")
		fmt.Fprintln(&list, name, folder)
		run(t, "go", "test", "-c", "-o", filepath.Join(p.dir, "tests", name+".test"), filepath.Join(sources, folder))
		if err := os.CopyFS(filepath.Join(p.dir, "src", folder), os.DirFS(filepath.Join(sources, folder))); err != nil {
			t.Fatal(err)
		}
	}
	p.write(t, "tests/list", list.String())
	script, err := os.ReadFile("testdata/guest.sh")
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "guest.sh", string(script))
	p.write(t, "settings", fmt.Sprintf("LIMIT=%.0f STRICT=%s TOO_OLD=$(cat too-old)\n", limit.Seconds(), os.Getenv("INTERCEDE_TEST_STRICT")))
	return p
}

func (p payload) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// disk makes a disk of it for a machine.
func (p payload) disk(t *testing.T, m debian) string {
	t.Helper()
	text := ""
	if m.tooOld {
		text = "yes"
	}
	p.write(t, "too-old", text)
	disk := filepath.Join(t.TempDir(), "payload")
	makeDisk(t, disk, p.dir, 1<<30)
	return disk
}
