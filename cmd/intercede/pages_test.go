//go:build runtimes

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const pages = "../../docs/runtimes"

const blockMark = "=== block %d ==="

// block is a block of commands (sh) of a page, and the lines that its output has: those of the block of text right
// behind it.
type block struct {
	page, script string
	want         []string
}

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func readPage(t *testing.T, page string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pages, page))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	before := ""
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		kind, body := found[1], found[2]
		switch {
		case kind == "sh":
			blocks = append(blocks, block{page: page, script: body})
		case kind == "text" && before == "sh":
			blocks[len(blocks)-1].want = strings.Split(strings.TrimSpace(body), "\n")
		}
		before = kind
	}
	return blocks
}

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
		t.Run(page, func(t *testing.T) { runPage(t, append(readPage(t, "README.md"), readPage(t, page)...)) })
	}
}

func runPage(t *testing.T, blocks []block) {
	t.Helper()
	checkBlocks(t, blocks, onMachine(t, scriptOf(blocks)))
}

// scriptOf runs the blocks one after the other.
func scriptOf(blocks []block) string {
	var script strings.Builder
	for i, b := range blocks {
		fmt.Fprintf(&script, "echo '"+blockMark+"'\n%s", i, b.script)
	}
	return script.String()
}

// checkBlocks checks what scriptOf has printed.
func checkBlocks(t *testing.T, blocks []block, rest string) {
	t.Helper()
	for i, b := range blocks {
		_, rest, _ = strings.Cut(rest, fmt.Sprintf(blockMark, i)+"\n")
		output, _, _ := strings.Cut(rest, fmt.Sprintf(blockMark, i+1)+"\n")
		for _, line := range b.want {
			if !strings.Contains(output, line) {
				t.Errorf("%s:\n%swant %q, got:\n%s", b.page, b.script, line, output)
			}
		}
	}
	if t.Failed() {
		return
	}
	t.Logf("%d blocks of commands", len(blocks))
}
