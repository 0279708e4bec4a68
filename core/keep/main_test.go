package keep

import (
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
)

// role names what a process of the test's own binary is to do.
const roleVariable = "INTERCEDE_TEST_ROLE"

var roles = map[string]func(){}

func TestMain(m *testing.M) {
	testcaller.Init()
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}
