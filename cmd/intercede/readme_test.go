package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// sections are those of every plugin's page, in their order.
var sections = []string{"Name", "Description", "Syscalls", "Syntax", "Responses", "Privileges", "Security",
	"Metrics", "Examples", "See Also"}

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

var fence = regexp.MustCompile("(?s)```toml\n(.*?)```")

func checkExamples(t *testing.T, s *site, file string, flags ...string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	examples := fence.FindAllSubmatch(text, -1)
	if len(examples) == 0 {
		t.Fatalf("%s: no example", file)
	}
	for _, example := range examples {
		s.write(t, string(example[1]))
		if r := intercede(t, append([]string{"check", "--config", s.config()}, flags...)...); r.status != 0 {
			t.Errorf("%s: %s\n%s", file, example[1], r.stderr)
		}
	}
}
