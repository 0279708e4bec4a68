//go:build runtimes

package main

import (
	"path/filepath"
	"slices"
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

// TestWhyPage runs the page about what an operator sees.
func TestWhyPage(t *testing.T) {
	runPage(t, slices.Concat(readPage(t, pages+"/README.md"), readPage(t, pages+"/runc.md"), readPage(t, "../../docs/why.md")))
}

func runPage(t *testing.T, blocks []block) {
	t.Helper()
	checkOutput(t, blocks, onMachine(t, pageScript(blocks)))
	if !t.Failed() {
		t.Logf("%d blocks", len(blocks))
	}
}

// TestStatusPage runs the page about how the daemon and its containers are.
func TestStatusPage(t *testing.T) {
	runPage(t, slices.Concat(readPage(t, pages+"/README.md"), readPage(t, "../../docs/status.md")))
}
