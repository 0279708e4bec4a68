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

// Thread is an OS thread that Do can work on without handing over to another, which takes longer than most of what is
// done there.
type Thread struct {
	home    *home
	tid     int
	busy    bool
	spoiled bool
}

// NewThread makes one of the calling goroutine's thread, which is to end with the goroutine (see GoOnThread): it leaves
// the process's filesystem context (CLONE_FS), and stands at its root.
func NewThread() (*Thread, error) {
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
	return &Thread{home: home, tid: unix.Gettid()}, nil
}

// Spoiled reports whether the thread could not be brought home: nothing is to be done on it any more.
func (th *Thread) Spoiled() bool { return th != nil && th.spoiled }

// UseThread makes Do work on the thread when it is called there. nil: never.
func (t *Target) UseThread(th *Thread) { t.own = th }

// isHere reports whether the caller is on the thread, at home.
func (th *Thread) isHere() bool {
	return th != nil && th.tid == unix.Gettid() && !th.busy && !th.spoiled
}

// run runs fn, which goes to the place, and brings the thread home whatever becomes of it.
func (th *Thread) run(place *Place, fn func() error) error {
	th.busy = true
	defer func() {
		th.busy = false
		th.spoiled = th.home.restore(place) != nil
	}()
	return fn()
}
