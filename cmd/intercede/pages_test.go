//go:build runtimes

package main

import (
	"path/filepath"
	"testing"
)

const pages = "../../docs/runtimes"

// Every page goes from an empty machine to working containers, after the first page's installation.
func TestRuntimePages(t *testing.T) {
	found, err := filepath.Glob(pages + "/*.md")
	if err != nil || len(found) < 7 {
		t.Fatalf("pages: %v, %v", found, err)
	}
	for _, path := range found {
		page := filepath.Base(path)
		if page == "README.md" {
			continue
		}
		t.Run(page, func(t *testing.T) { runPage(t, append(readPage(t, pages+"/README.md"), readPage(t, path)...)) })
	}
}

// TestRuntimePagesTasks runs the pages of docs that begin where others of docs/runtimes end.
func TestRuntimePagesTasks(t *testing.T) {
	for page, after := range map[string][]string{
		"why.md":        {"README.md", "runc.md"},
		"devices.md":    {"README.md"},
		"not-expect.md": {"README.md"},
		"status.md":     {"README.md"},
	} {
		t.Run(page, func(t *testing.T) {
			var blocks []block
			for _, before := range after {
				blocks = append(blocks, readPage(t, pages+"/"+before)...)
			}
			runPage(t, append(blocks, readPage(t, "../../docs/"+page)...))
		})
	}
}

func runPage(t *testing.T, blocks []block) {
	t.Helper()
	checkOutput(t, blocks, onMachine(t, pageScript(blocks)))
	if !t.Failed() {
		t.Logf("%d blocks", len(blocks))
	}
}
