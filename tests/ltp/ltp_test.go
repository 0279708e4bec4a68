package ltp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

func TestLTP(t *testing.T) {
	folder := os.Getenv("LTP")
	if folder == "" {
		require.Lacking(t, "LTP is not set: see make ltp")
	}
	suite(folder).Run(t, readTests(t, folder))
}

// readTests gives the names of the tests that were built, by the list that the Linux Test Project runs them by.
func readTests(t *testing.T, folder string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "tests"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0][0] == '#' {
			continue
		}
		if _, err := os.Stat(filepath.Join(folder, "bin", words[1])); err == nil {
			names = append(names, words[1])
		}
	}
	return names
}
