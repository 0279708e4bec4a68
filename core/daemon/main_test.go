package daemon

import (
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	testplugin.Init()
	testcaller.Init()
	os.Exit(m.Run())
}
