package keep

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
)

// roleVariable names what a process of the test's own binary is to do.
const roleVariable = "INTERCEDE_TEST_ROLE"

var roles = map[string]func(){}

func TestMain(m *testing.M) {
	Init()
	testcaller.Init()
	if len(os.Args) > 1 && os.Args[1] == "keep" {
		os.Exit(command(os.Args[2:]))
	}
	if role, ok := roles[os.Getenv(roleVariable)]; ok {
		role()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command is what a keeper executes of its own program: that of `intercede keep`, as far as it is needed.
func command(args []string) int {
	var err error
	switch args[0] {
	case "--knows-state":
		if args[1] != fmt.Sprint(StateVersion) {
			return 1
		}
	case "--answer":
		err = RunFallback(FallbackOptions{Path: args[2], Journal: args[4], Log: testLog()})
	default:
		err = fmt.Errorf("unknown: %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func testLog() *slog.Logger { return slog.New(slog.NewTextHandler(os.Stderr, nil)) }
