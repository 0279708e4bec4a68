package daemon

import (
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
)

func TestMain(m *testing.M) {
	launcher.Init()
	testplugin.Init()
	testcaller.Init()
	os.Exit(m.Run())
}
