package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"google.golang.org/protobuf/encoding/protojson"
)

// sections are those of every plugin's page, in their order.
var sections = []string{"Name", "Description", "Syscalls", "Syntax", "Responses", "Reasons", "Privileges",
	"Security", "Metrics", "Examples", "See Also"}

func readmes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../plugins/*/README.md")
	if err != nil || len(files) < 2 {
		t.Fatalf("pages of plugins: %v, %v", files, err)
	}
	return files
}

func TestPluginPagesHaveSections(t *testing.T) {
	for _, file := range readmes(t) {
		t.Run(file, func(t *testing.T) { checkSections(t, file) })
	}
}

var heading = regexp.MustCompile(`(?m)^## (.*)$`)

func checkSections(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, found := range heading.FindAllSubmatch(text, -1) {
		got = append(got, string(found[1]))
	}
	if !slices.Equal(got, sections) {
		t.Errorf("%s: sections %q, want %q", file, got, sections)
	}
}

// Every example of a config is one that the plugin takes.
func TestPluginPagesExamples(t *testing.T) {
	s := newSite(t, "")
	for _, file := range readmes(t) {
		t.Run(file, func(t *testing.T) { checkExamples(t, s, file) })
	}
}

func checkExamples(t *testing.T, s *site, file string, flags ...string) {
	t.Helper()
	examples := 0
	for _, b := range readPage(t, file) {
		if b.kind != "toml" {
			continue
		}
		examples++
		s.write(t, b.body)
		if r := intercede(t, append([]string{"check", "--config", s.config()}, flags...)...); r.status != 0 {
			t.Errorf("%s: %s\n%s", file, b.body, r.stderr)
		}
	}
	if examples == 0 {
		t.Errorf("%s: no example", file)
	}
}

// TestPluginPagesReasons compares the reasons of each page with those of the plugin's manifest.
func TestPluginPagesReasons(t *testing.T) {
	sdktest.RequireRoot(t)
	listed := regexp.MustCompile("(?m)^- `([a-z0-9_]+)` - (.*)$")
	for _, file := range readmes(t) {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, section, _ := strings.Cut(string(text), "\n## Reasons\n")
			section, _, _ = strings.Cut(section, "\n## ")
			var got []string
			for _, found := range listed.FindAllStringSubmatch(section, -1) {
				got = append(got, found[1]+": "+found[2])
			}
			var manifest wire.Manifest
			name := filepath.Base(filepath.Dir(file))
			out, err := exec.Command(filepath.Join(binaries, wire.BinaryPrefix+name), "manifest").Output()
			if err == nil {
				err = protojson.Unmarshal(out, &manifest)
			}
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, r := range manifest.GetReasons() {
				want = append(want, r.GetCode()+": "+r.GetHelp())
			}
			if !slices.Equal(got, want) {
				t.Errorf("the page has the reasons %q, the manifest %q", got, want)
			}
		})
	}
}
