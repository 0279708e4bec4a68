package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const guide = "../../docs/plugins"

// guidePages are the pages, in the order in which the first one names them.
func guidePages(t *testing.T) []string {
	t.Helper()
	index, err := os.ReadFile(guide + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, found := range regexp.MustCompile(`(?m)^\| \[[^]]*\]\(([a-z-]+\.md)\)`).FindAllStringSubmatch(string(index), -1) {
		files = append(files, filepath.Join(guide, found[1]))
	}
	if len(files) < 7 {
		t.Fatalf("the index names the pages %q", files)
	}
	return files
}

// TestGuide runs the commands of all pages, one page after the other: they are about the same plugin.
func TestGuide(t *testing.T) {
	require(t, "unshare", "gcc", "gpg", "dpkg-deb", "busybox")
	var blocks []block
	for _, file := range guidePages(t) {
		blocks = append(blocks, readPage(t, file)...)
	}
	prologue, err := os.ReadFile("testdata/guide")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ic")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(dir+"/script", []byte(string(prologue)+pageScript(blocks)), 0o644); err != nil {
		t.Fatal(err)
	}
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"--mount-proc", "bash", "-eu", "-o", "pipefail", dir+"/script", dir, binaries, checkout)
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	checkOutput(t, blocks, string(output))
}

// imported are the packages that a piece of Go code on a page may use.
var imported = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "os": "os", "slices": "slices", "strings": "strings", "testing": "testing",
	"sdk": "github.com/intercede/intercede/sdk", "sdktest": "github.com/intercede/intercede/sdk/sdktest",
	"target": "github.com/intercede/intercede/sdk/target", "unix": "golang.org/x/sys/unix",
}

// TestGuideCompiles compiles the Go code of the pages that is not a whole file: declarations, or what a handler does.
// All of it is one package.
func TestGuideCompiles(t *testing.T) {
	vet := exec.Command("go", "vet", "-unreachable=false")
	dir := t.TempDir()
	for _, page := range guidePages(t) {
		for i, b := range readPage(t, page) {
			if b.kind != "go" || b.file != "" {
				continue
			}
			name := fmt.Sprintf("%s_%d", strings.TrimSuffix(b.page, ".md"), i)
			file := filepath.Join(dir, name+".go")
			if err := os.WriteFile(file, []byte(compilable(name, b.body)), 0o644); err != nil {
				t.Fatal(err)
			}
			vet.Args = append(vet.Args, file)
		}
	}
	if output, err := vet.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// compilable is a piece of code as a file. What a handler does is a function of this name.
func compilable(name, piece string) string {
	var text strings.Builder
	text.WriteString("package guide\n\n")
	declares := regexp.MustCompile(`^(?://.*\n)*(func|type|var|const) `).MatchString(piece)
	for name, path := range imported {
		if used := regexp.MustCompile(`\b` + name + `\.[A-Z]`); used.MatchString(piece) || !declares && (name == "context" || name == "sdk") {
			fmt.Fprintf(&text, "import %q\n", path)
		}
	}
	if declares {
		return text.String() + piece
	}
	fmt.Fprintf(&text, "func %s(ctx context.Context, req *sdk.Request) (sdk.Response, error) {\n", name)
	return text.String() + piece + "\nreturn sdk.Next(), nil\n}\n"
}
