// Package acting joins package sdk to sdk/target: what the SDK alone does with targets, and plugins do not.
package acting

import (
	"time"

	"github.com/intercede/intercede/internal/capture"
)

// Call is what the target of one notification is made of.
type Call struct {
	TID         int
	Source      capture.Source    // of what is not captured yet
	Captured    *capture.Captured // nil: nothing is
	Descriptors []int             // of what is captured; the target takes them over, also with an error
	Thread      Thread            // that Do works on when it is called there; nil: on others alone
	End         time.Time         // from which on Do does nothing, since the caller has had its answer; zero: never
}

// Thread is an OS thread that Do can work on without handing over to another, which takes longer than most of what is
// done there.
type Thread interface {
	// Spoiled reports whether the thread could not be brought home: nothing is to be done on it any more.
	Spoiled() bool
}

// Package target sets these.
var (
	// NewTarget makes a *target.Target.
	NewTarget func(Call) (any, error)
	// NewThread makes one of the calling goroutine's thread, which is to end with the goroutine (target.GoOnThread): it
	// leaves the process's filesystem context (CLONE_FS), and stands at its root.
	NewThread func() (Thread, error)
	// AwaitCopies waits until no helper process has a copy of what this process has closed before. It costs next to
	// nothing where there is none.
	AwaitCopies func()
	// Alternate is called when a call comes of another container than the call before.
	Alternate func()
)
