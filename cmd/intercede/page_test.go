package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of a page: commands (sh), with the lines that their output has, which are those of the block
// of text right after them; or else something that the page names before it as the content of a file.
type block struct {
	page, kind, body string
	file             string // whose content the body is; empty: of none
	want             []string
}

// fence is a fenced block, after a line that ends with the name of a file, such as "`main.go`:", or without one.
var fence = regexp.MustCompile("(?ms)(?:`([\\w./-]+)`:\n\n)?^```(\\w+)\n(.*?)^```$")

func readPage(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		b := block{page: filepath.Base(path), file: found[1], kind: found[2], body: found[3]}
		if last := len(blocks) - 1; b.kind == "text" && last >= 0 && blocks[last].kind == "sh" {
			blocks[last].want = strings.Split(strings.TrimSpace(b.body), "\n")
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// mark is printed before the output of each block.
const mark = "=== block %d ==="

// pageScript writes the files of blocks and runs their commands, in the order of the page.
func pageScript(blocks []block) string {
	var script strings.Builder
	for i, b := range blocks {
		fmt.Fprintf(&script, "echo '"+mark+"'\n", i)
		switch {
		case b.file != "":
			fmt.Fprintf(&script, "cat >%s <<'END_OF_FILE'\n%sEND_OF_FILE\n", b.file, b.body)
		case b.kind == "sh":
			script.WriteString(b.body)
		}
	}
	return script.String()
}

// checkOutput compares what the script of blocks has printed with what the pages say.
func checkOutput(t *testing.T, blocks []block, printed string) {
	t.Helper()
	for i, b := range blocks {
		_, printed, _ = strings.Cut(printed, fmt.Sprintf(mark, i)+"\n")
		output, _, _ := strings.Cut(printed, fmt.Sprintf(mark, i+1)+"\n")
		for _, line := range b.want {
			if !strings.Contains(output, line) {
				t.Errorf("%s:\n%swant %q, got:\n%s", b.page, b.body, line, output)
			}
		}
	}
}
