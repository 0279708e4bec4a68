package xfstests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/tests/stage"
)

func TestMain(m *testing.M) { os.Exit(stage.Main(m, stage.Kinds{})) }

func TestXfstests(t *testing.T) {
	folder := os.Getenv("XFSTESTS")
	if _, err := os.Stat(filepath.Join(folder, "ltp", "fsstress")); folder == "" || err != nil {
		require.Lacking(t, "XFSTESTS=%q is not the folder of a built xfstests: see docs/conformance.md", folder)
	}
	suite(folder).Run(t, strings.Fields(tests))
}
