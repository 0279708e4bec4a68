package target

import (
	"fmt"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// GoOnThread runs fn on a goroutine of its own, locked to an OS thread that ends with it. So fn may change what is the
// thread's: its namespaces, directories, credentials.
//
// It is never the first thread of the process: that one does not end, and it is the one that /proc/self shows.
func GoOnThread(fn func()) { linux.GoOnThread(fn) }

// ownThread is an OS thread that Do can work on without handing over to another, see acting.Thread.
type ownThread struct {
	home    *home
	tid     int
	busy    bool
	spoiled bool
}

// newThread is acting.NewThread.
func newThread() (*ownThread, error) {
	home, err := openHomeOnce()
	if err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("unshare(CLONE_FS): %w", err)
	}
	if err := unix.Fchdir(home.root); err != nil {
		return nil, fmt.Errorf("fchdir to the own root: %w", err)
	}
	return &ownThread{home: home, tid: unix.Gettid()}, nil
}

// Spoiled implements acting.Thread.
func (th *ownThread) Spoiled() bool { return th != nil && th.spoiled }

// isHere reports whether the caller is on the thread, at home.
func (th *ownThread) isHere() bool {
	return th != nil && th.tid == unix.Gettid() && !th.busy && !th.spoiled
}

// run runs fn, which goes to the place, and brings the thread home whatever becomes of it.
func (th *ownThread) run(place *Place, fn func() error) error {
	th.busy = true
	defer func() {
		th.busy = false
		th.spoiled = th.home.restore(place) != nil
	}()
	return fn()
}
