package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link         = regexp.MustCompile(`\]\(([^)\s:]+)\)`) // without a colon: of the sources
	fenced       = regexp.MustCompile("(?ms)^```.*?^```$")
	title        = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchors = regexp.MustCompile(`[^\w\- ]`)
)

// TestLinks follows the links between pages, to their sections too.
func TestLinks(t *testing.T) {
	list := exec.Command("git", "ls-files", "*.md")
	list.Dir = "../.."
	for _, page := range strings.Fields(mustRun(t, list)) {
		page = filepath.Join("../..", page)
		for _, found := range link.FindAllStringSubmatch(prose(t, page), -1) {
			path, section, _ := strings.Cut(found[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", page, found[1], err)
			} else if section != "" && !anchors(t, target)[section] {
				t.Errorf("%s: %s: the page does not have this section", page, found[1])
			}
		}
	}
}

// prose is a page without its fenced blocks.
func prose(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return fenced.ReplaceAllString(string(text), "")
}

// anchors are the names that GitHub gives to the sections of a page.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, found := range title.FindAllStringSubmatch(prose(t, page), -1) {
		name := notInAnchors.ReplaceAllString(strings.ToLower(found[1]), "")
		names[strings.ReplaceAll(name, " ", "-")] = true
	}
	return names
}
