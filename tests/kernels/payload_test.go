package kernels

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// payload is what the machines run, of this tree: the project's package, and the tests' binaries with the tree's files.
type payload struct{ dir string }

// sources is the folder of the tree.
const sources = "../.."

func newPayload(t *testing.T, machine processor, tests []string, limit time.Duration) payload {
	t.Helper()
	p := payload{t.TempDir()}
	environment := machine.environment(t)
	build := func(command ...string) {
		t.Helper()
		run(t, "env", slices.Concat([]string{"--chdir=" + sources}, environment, command)...)
	}
	run(t, "mkdir", filepath.Join(p.dir, "tests"), filepath.Join(p.dir, "src"))
	packages := t.TempDir()
	build("scripts/package", "0.1.0", packages, "deb")
	move(t, filepath.Join(packages, "*.deb"), filepath.Join(p.dir, "intercede.deb"))
	var list strings.Builder
	for _, folder := range tests {
		name := strings.ReplaceAll(folder, "/", "_")
		fmt.Fprintln(&list, name, folder)
		binary := filepath.Join(p.dir, "tests", name)
		build("go", "test", "-c", "-ldflags=-s -w", "-o", binary+".test", "./"+folder)
		if client := filepath.Join(folder, "testdata/client"); exists(filepath.Join(sources, client)) {
			build("CGO_ENABLED=0", "go", "build", "-o", binary+".program", "./"+client)
		}
		if old := filepath.Join(folder, "testdata/oldplugin"); exists(filepath.Join(sources, old)) {
			build("CGO_ENABLED=0", "GOWORK=off", "go", "-C", old, "build", "-o", binary+".program", ".")
		}
		if strings.HasPrefix(folder, "tests/") {
			build("INTERCEDE_TEST_BUILD="+filepath.Join(p.dir, "programs", name), "go", "test", "-count=1", "./"+folder)
		}
	}
	build("sh", "-c", "git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "+filepath.Join(p.dir, "src"))
	p.write(t, "tests/list", list.String())
	run(t, "cp", "testdata/guest.sh", "testdata/init.sh", p.dir)
	settings := fmt.Sprintf("LIMIT=%.0f\nKIND=$(cat kind)\n", limit.Seconds())
	for _, name := range []string{
		"INTERCEDE_TEST_STRICT", "DIFFERENTIAL_TIME", "DIFFERENTIAL_SEED", "DIFFERENTIAL_COUNT", "DIFFERENTIAL_FAMILIES",
	} {
		settings += fmt.Sprintf("export %s='%s'\n", name, os.Getenv(name))
	}
	p.write(t, "settings", settings)
	return p
}

// everyTest are the packages whose tests run on any machine: all that have tests, but for those below cmd and tests,
// which build programs, and sdk/internal/stable, which asks the Go compiler.
func everyTest(t *testing.T) []string {
	t.Helper()
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}`
	listed := run(t, "go", "-C", sources, "list", "-f", format, "./core/...", "./internal/...", "./plugins/...", "./sdk/...")
	var all []string
	for _, path := range strings.Fields(listed) {
		if folder := strings.TrimPrefix(path, "github.com/intercede/intercede/"); folder != "sdk/internal/stable" {
			all = append(all, folder)
		}
	}
	return all
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
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
	kind := ""
	switch {
	case m.tooOld:
		kind = "too-old"
	case m.small:
		kind = "small"
	}
	p.write(t, "kind", kind)
	disk := filepath.Join(t.TempDir(), "payload")
	makeDisk(t, disk, p.dir, 4<<30) // sparse
	return disk
}
