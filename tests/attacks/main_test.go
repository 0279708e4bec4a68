package attacks

import (
	"os"
	"testing"

	"github.com/intercede/intercede/tests/stage"
)

func TestMain(m *testing.M) {
	status := stage.Main(m, stage.Kinds{Delayed: true, I386: true})
	summary.print()
	os.Exit(status)
}

// daemon is a daemon that is attacked.
type daemon struct {
	*stage.Daemon
	attack *attack
}

func (a *attack) serve(s stage.Setup) *daemon {
	a.Helper()
	return &daemon{a.Serve(s), a}
}
