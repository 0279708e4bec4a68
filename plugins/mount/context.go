package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// The caller holds a filesystem context (fsopen(2)) that this plugin opened for it, and on which nothing is ever
// created: anybody that it gives the descriptor to, a process without a filter for example, may put options into it
// that nobody has checked. It takes the options once more, for the kernel's errors and messages, which the caller reads
// from it. What is checked is recorded here, and goes into a context of this plugin's own.

// maxContexts bounds those of a container: the oldest is forgotten.
const maxContexts = 16

// contextLife is how long a context holds a superblock or a mount, since it cannot be seen when the caller closes it.
// Tests shorten it.
var contextLife = time.Minute

// contexts are those of a container that are in use.
type contexts struct {
	mu        sync.Mutex
	open      []*fsContext // the oldest first
	exchanged bool         // the container exchanged a descriptor while it was looked at: no more are taken
}

// contextLink is what a descriptor of a filesystem context links to in /proc/PID/fd.
const contextLink = "anon_inode:[fscontext]"

// errExchanged means that a descriptor was another's when it was taken.
var errExchanged = errors.New("a descriptor was exchanged while it was looked at")

// fsContext is what a caller prepares by fsconfig(2), one call at a time.
type fsContext struct {
	shown      int // a duplicate of the caller's descriptor
	filesystem *filesystem
	turn       chan struct{}
	expiry     *time.Timer

	phase   phase
	source  *string
	options []option // checked
	order   order
	created int // this plugin's own context, once the superblock is there
	how     creation

	mount   int // that was given to the caller; it lives by this descriptor until it is attached
	mountID uint64

	gone chan struct{} // closed when nothing is held any more

	superblock *superblock // of a context by fspick(2): the one that is to change
	picked     int         // this plugin's own context of that, which holds it: until the first change, or contextLife
	pickedAt   uint64      // the mount that was named
}

type phase uint8

const (
	collecting phase = iota // options
	created                 // the superblock is there
	failed
	closed
)

// newContext makes one around an own descriptor of the caller's file.
func newContext(shown int, f *filesystem) *fsContext {
	return &fsContext{shown: shown, filesystem: f, turn: make(chan struct{}, 1), created: -1, mount: -1, picked: -1, gone: make(chan struct{})}
}

// add begins to keep a context.
func (c *contexts) add(f *fsContext) {
	c.mu.Lock()
	var oldest *fsContext
	if len(c.open) >= maxContexts {
		oldest = c.open[0]
	}
	c.open = append(c.open, f)
	f.expiry = time.AfterFunc(contextLife, func() { c.expire(f) })
	c.mu.Unlock()
	if oldest != nil {
		c.forget(oldest)
	}
}

// expire gives back what a context holds. One of fspick(2) goes on without: a change finds its superblock again.
func (c *contexts) expire(f *fsContext) {
	if f.superblock == nil {
		c.forget(f)
		return
	}
	f.turn <- struct{}{}
	f.letGo()
	<-f.turn
}

// forget ends the keeping of a context, when no call works on it.
func (c *contexts) forget(f *fsContext) {
	c.mu.Lock()
	i := slices.Index(c.open, f)
	if i >= 0 {
		c.open = slices.Delete(c.open, i, i+1)
		f.expiry.Stop()
	}
	c.mu.Unlock()
	if i < 0 {
		return
	}
	go func() {
		f.turn <- struct{}{}
		defer func() { <-f.turn }()
		f.phase = closed
		f.close()
		close(f.gone)
	}()
}

func (f *fsContext) close() {
	for _, fd := range []*int{&f.shown, &f.created, &f.mount, &f.picked} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}

// letGo gives the superblock of a context of fspick(2) back.
func (f *fsContext) letGo() {
	if f.picked >= 0 {
		unix.Close(f.picked)
	}
	f.picked = -1
}

// becomeMount keeps the mount that was made from the context, instead of all else.
func (c *contexts) becomeMount(f *fsContext, m *made) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.close()
	f.phase, f.mount = closed, m.mount
	var err error
	f.mountID, err = mountID(m.mount)
	return err
}

func (c *contexts) none() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open) == 0
}

// mountOf finds the mount that a file is on, among those that were given to callers.
func (c *contexts) mountOf(file *os.File) (*fsContext, error) {
	id, err := mountID(int(file.Fd()))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.open, func(f *fsContext) bool { return f.mountID == id })
	if i < 0 {
		return nil, nil
	}
	return c.open[i], nil
}

func (c *contexts) forgetAll() {
	c.mu.Lock()
	all := slices.Clone(c.open)
	c.mu.Unlock()
	for _, f := range all {
		c.forget(f)
	}
}

// sameFile reports whether two descriptors are of the same open file (F_DUPFD_QUERY, kernel 6.10).
func sameFile(a, b int) bool {
	same, err := unix.FcntlInt(uintptr(a), unix.F_DUPFD_QUERY, b)
	return err == nil && same == 1
}

// tellsFiles reports whether the kernel has F_DUPFD_QUERY.
var tellsFiles = sync.OnceValue(func() bool {
	same, err := unix.FcntlInt(0, unix.F_DUPFD_QUERY, 0)
	return err == nil && same == 1
})

// take finds the context that a descriptor of the caller is open on, and waits for its turn. It is nil if the context
// is none of this plugin's.
func (c *contexts) take(ctx context.Context, caller *target.Target, fd int) (f *fsContext, release func(), err error) {
	c.mu.Lock()
	some := len(c.open) > 0 && !c.exchanged
	c.mu.Unlock()
	if !some {
		return nil, nil, nil
	}
	theirs, err := caller.Duplicate(fd)
	switch {
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.EOPNOTSUPP):
		return nil, nil, nil
	case errors.Is(err, unix.ESTALE):
		return nil, nil, c.endTrust()
	case err != nil:
		return nil, nil, err
	}
	defer unix.Close(theirs)
	if link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", theirs)); link != contextLink {
		return nil, nil, nil
	}
	c.mu.Lock()
	i := slices.IndexFunc(c.open, func(f *fsContext) bool { return f.shown >= 0 && sameFile(f.shown, theirs) })
	if i >= 0 {
		f = c.open[i]
	}
	c.mu.Unlock()
	if f == nil {
		return nil, nil, nil
	}
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if f.phase == closed {
		<-f.turn
		return nil, nil, nil
	}
	return f, func() { <-f.turn }, nil
}

// endTrust bounds how often a container can have the broker hold a file that cannot be closed at once.
func (c *contexts) endTrust() error {
	c.mu.Lock()
	c.exchanged = true
	c.mu.Unlock()
	c.forgetAll()
	return errExchanged
}

// give puts a new context into the caller's table.
func (s *session) give(f *fsContext, closeOnExec bool) (sdk.Response, error) {
	theirs, err := unix.FcntlInt(uintptr(f.shown), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(f.shown)
		return sdk.Response{}, fmt.Errorf("duplicate of a filesystem context: %w", err)
	}
	s.contexts.add(f)
	return sdk.AddFD(os.NewFile(uintptr(theirs), "fscontext"), closeOnExec), nil
}
