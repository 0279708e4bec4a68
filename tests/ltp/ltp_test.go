package ltp

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

func TestLTP(t *testing.T) {
	folder := os.Getenv("LTP")
	if folder == "" {
		require.Lacking(t, "LTP is not the folder of an installed Linux Test Project: see docs/conformance.md")
	}
	suite(folder).Run(t, readTests(t, folder))
}

// readTests gives the names of the tests of the calls, by the list that the Linux Test Project runs them by.
func readTests(t *testing.T, folder string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "runtest", "syscalls"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0][0] == '#' {
			continue
		}
		call := strings.TrimRight(strings.TrimRight(words[1], "0123456789"), "_")
		if slices.Contains(calls, call) {
			names = append(names, words[1])
		}
	}
	return names
}
