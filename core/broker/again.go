package broker

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Without SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV a signal takes a caller out of a call that the broker has received.
// What the plugin does for it goes on. When the caller's handler has returned, the kernel restarts the call, which is
// another notification. It is the same call: it is not done again, but gets the answer of the first.
//
// Which notification is a call again is decided by what the plugins decide and act on: thread, number, arguments, and
// all that was captured, memory, credentials, place and descriptors. So an answer tells, or gives, nobody anything that
// it could not have got by itself. A thread is known by its id and by the time since when it has had that.
//
// A program whose handler is not to have calls restarted (sigaction(2), without SA_RESTART) gets EINTR. If it then
// makes the same call within againTime, that too is the same call, since nothing tells the one from the other.

// againTime is how long an answer that found nobody is kept, from when its caller can make the call again.
const againTime = 2 * time.Second

// errAgain means that another call has taken the notification over, which it answers.
var errAgain = errors.New("the call is being handled already")

// again knows the calls of a container that may come again: those that a plugin has, and those whose answers found
// nobody.
type again struct {
	interrupted atomic.Bool // a signal has taken a caller out of its call

	mu      sync.Mutex
	calls   []inPlugin
	waiting int       // for what becomes of a call that is being answered
	settled sync.Cond // it is known of one
	kept    []*keptAnswer
	bytes   int // of kept
	expiry  *time.Timer
	expired func() // is called by the timer
	looking bool   // at threads of kept answers: see expire
	over    bool
}

func (a *again) init(expired func()) { a.settled.L, a.expired = &a.mu, expired }

// inPlugin is a call that a plugin has, by its thread.
type inPlugin struct {
	tid  uint32
	call *call
}

// identity is what makes a call the same as another.
type identity struct {
	tid      uint32
	nr       int32
	arch     uint32
	ip       uint64
	args     [6]uint64
	captured []byte    // see call.appendCaptured
	received time.Time // the thread must have had its id then
}

// identity is good as long as the desk's call is.
func (c *call) identity() identity {
	n := c.notification
	return identity{n.TID, n.NR, n.Arch, n.IP, n.Args, c.desk.captured, c.began}
}

// looksLike reports whether two calls are the same, but for whose thread had the id.
func (i *identity) looksLike(other *identity) bool {
	return i.tid == other.tid && i.nr == other.nr && i.arch == other.arch && i.ip == other.ip && i.args == other.args &&
		bytes.Equal(i.captured, other.captured)
}

// appendCaptured appends all that was captured of the caller, which must be open still: the same bytes are the same
// memory, credentials and files.
func (c *call) appendCaptured(b []byte) ([]byte, error) {
	for _, m := range c.reads {
		b = binary.NativeEndian.AppendUint32(b, uint32(m.GetErrno()))
		b = binary.NativeEndian.AppendUint32(b, uint32(len(m.GetData())))
		b = append(b, m.GetData()...)
	}
	message := c.desk.dialogue.CapturedMessage()
	size := message.SizeVT()
	b = slices.Grow(b, size)[:len(b)+size]
	if _, err := message.MarshalToSizedBufferVT(b[len(b)-size:]); err != nil {
		return b, err
	}
	return appendFiles(b, &c.desk.dialogue.Captured)
}

// appendFiles appends which files the set has. It does not ask their filesystems, which a container may serve.
func appendFiles(b []byte, set *capture.Set) ([]byte, error) {
	next := 0
	for _, h := range set.Handles {
		if !h.HasDescriptor {
			continue
		}
		fd := set.Descriptors[next]
		next++
		if h.Part == capture.PartMountinfo {
			continue // a file of /proc is another one each time
		}
		var st unix.Statx_t
		if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
			return b, cannotCompare(h.Part, err)
		}
		b = binary.NativeEndian.AppendUint64(b, unix.Mkdev(st.Dev_major, st.Dev_minor))
		b = binary.NativeEndian.AppendUint64(b, st.Ino)
		b = binary.NativeEndian.AppendUint64(b, st.Mnt_id)
	}
	return b, nil
}

// cannotCompare is the error of a call whose files cannot be told from those of another. FUSE shows a file's
// attributes to its own users alone (fuse_allow_current_process, fs/fuse/dir.c), which neither this process nor a
// plugin is where a container has mounted it.
func cannotCompare(part capture.Part, err error) error {
	if errors.Is(err, unix.EACCES) {
		what := map[capture.Part]string{capture.PartRoot: "root", capture.PartWorkingDirectory: "working directory"}[part]
		return fmt.Errorf("%w's %s is on a FUSE filesystem of the container, where nobody can act for it: %w",
			errCapture, cmp.Or(what, "descriptor"), err)
	}
	return fmt.Errorf("statx of a captured file: %w", err)
}

// recall looks whether the call, which is captured, is one again that came before. It then returns the answer, or
// errAgain: a plugin has that call, which goes on with this notification. Else the call is known from now on.
func (c *call) recall() (*wire.Response, *lane.Descriptor, error) {
	if c.known {
		return nil, nil, nil
	}
	var err error
	if c.desk.captured, err = c.appendCaptured(c.desk.captured[:0]); err != nil {
		return nil, nil, err
	}
	c.known = true
	k, err := c.attachment.again.recall(c)
	if k == nil {
		return nil, nil, err
	}
	if k.doubtful {
		c.doubt = k.response
		return nil, nil, nil
	}
	c.attachment.freeDescriptor(k.added)
	return k.response, k.added, nil
}

// recall returns the answer that was kept for the call, or errAgain if a plugin has it, and else knows the call.
func (a *again) recall(c *call) (*keptAnswer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	own := c.identity()
	if before, kept := a.findSame(&own); before == nil && kept < 0 {
		a.add(c)
		return nil, nil
	}
	// The container can hold up who looks at its threads, and the watchdog needs the lock.
	a.mu.Unlock()
	since, err := capture.Since(int(own.tid))
	gone := !c.waits()
	a.mu.Lock()
	switch {
	case gone:
		return nil, lane.ErrGone // since when the thread has had its id may have been said of another
	case err != nil:
		return nil, err
	}
	before, kept := a.findSame(&own)
	// Over another connection comes no call again: over its own nothing comes before it is answered.
	if before != nil && !since.After(before.began) && before.answers == c.answers {
		a.interrupted.Store(true)
		before.follow(c.notification.ID)
		return nil, errAgain
	}
	a.add(c)
	if kept >= 0 && !since.After(a.kept[kept].call.received) {
		a.interrupted.Store(true)
		return a.unkeep(kept), nil
	}
	return nil, nil
}

// findSame finds a call that a plugin has, and an answer that was kept, to a call that looks like a later one. It waits
// until a call that is being answered is over. The lock is held, but not meanwhile.
func (a *again) findSame(later *identity) (before *call, kept int) {
	before = a.find(later)
	for before != nil && before.answering {
		a.waiting++
		a.settled.Wait()
		a.waiting--
		before = a.find(later)
	}
	return before, a.findKept(later)
}

// find finds a call that a plugin has, and looks like a later one; nil: there is none. The lock is held.
func (a *again) find(later *identity) *call {
	for _, p := range a.calls {
		if p.tid != later.tid {
			continue
		}
		if own := p.call.identity(); own.looksLike(later) {
			return p.call
		}
	}
	return nil
}

// add adds a call that a plugin is about to have, unless the watchdog has answered it. The lock is held.
func (a *again) add(c *call) {
	if !c.abandoned {
		a.calls = append(a.calls, inPlugin{c.notification.TID, c})
	}
}

// follow has the call, which a plugin has, be answered by this notification. The lock is held.
func (c *call) follow(id uint64) {
	c.id.Store(id)
	c.desk.slot.Follow(id)
	if c.followed != nil {
		close(c.followed)
		c.followed = nil
	}
}

// stay is a caller's stay in one notification: what was captured after it was asked for, and before Valid said that it
// lasts, is the caller's.
type stay struct {
	answers Answers
	id      uint64
}

func (s *stay) Valid() bool { return s.answers.Valid(s.id) }

// stay begins before something is captured. It is good until the next one.
func (c *call) stay() *stay {
	c.lastStay = stay{c.answers, c.id.Load()}
	return &c.lastStay
}

// waits reports whether the caller waits.
func (c *call) waits() bool { return c.answers.Valid(c.id.Load()) }

// Valid implements lane.Caller. A caller that a signal has taken out of the call may make it again, as long as it
// lives.
func (c *call) Valid() bool {
	if c.waits() {
		return true
	}
	since, err := capture.Since(int(c.notification.TID))
	return err == nil && !since.After(c.began)
}

// returns waits for a caller that a signal has taken out of its call to make it again, and reports whether it did. If
// not, nobody waits for the answer any more.
func (c *call) returns() bool {
	end := time.Now().Add(againTime)
	if deadline := c.asked.Add(c.allowed); deadline.Before(end) {
		end = deadline
	}
	for {
		followed := c.nextFollowed()
		if c.waits() {
			return true
		}
		if followed == nil || !c.Valid() || time.Now().After(end) {
			return !c.abandon()
		}
		select {
		case <-followed:
		case <-time.After(aliveInterval):
		case <-c.attachment.ctx.Done():
		}
	}
}

// aliveInterval is how often a caller that has left its call is looked at.
const aliveInterval = 100 * time.Millisecond

// nextFollowed gives a channel that is closed when another notification takes this one's place; nil: none will. What
// comes over a connection of LXC's comes after the answer.
func (c *call) nextFollowed() <-chan struct{} {
	a := &c.attachment.again
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := c.answers.(*listener.Listener); !ok || !a.has(c) || c.attachment.ctx.Err() != nil {
		return nil
	}
	if c.followed == nil {
		c.followed = make(chan struct{})
	}
	return c.followed
}

func (a *again) has(c *call) bool {
	return slices.ContainsFunc(a.calls, func(p inPlugin) bool { return p.call == c })
}

// abandon gives the call up, unless its caller waits, and reports whether it did: no other notification takes its
// place.
func (c *call) abandon() bool {
	a := &c.attachment.again
	a.mu.Lock()
	defer a.mu.Unlock()
	if !c.abandoned && c.waits() {
		return false
	}
	c.abandoned = true
	a.remove(c)
	return true
}

// settle is called before the call is answered, and reports whether the notification that is to be answered is still
// that of the last stay. If so, no other takes its place from now on.
func (c *call) settle() bool {
	if !c.known {
		return true
	}
	a := &c.attachment.again
	a.mu.Lock()
	defer a.mu.Unlock()
	c.answering = c.id.Load() == c.lastStay.id
	return c.answering
}

// lose is called before the watchdog answers the call: its own thread may come back at any time.
func (c *call) lose() {
	a := &c.attachment.again
	a.mu.Lock()
	defer a.mu.Unlock()
	c.abandoned = true
	a.remove(c)
}

// forget is called when the call is over.
func (c *call) forget() {
	if !c.known {
		return
	}
	c.known = false
	a := &c.attachment.again
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(c)
}

// remove takes out a call that a plugin had, if it is there. The lock is held.
func (a *again) remove(c *call) {
	a.calls = slices.DeleteFunc(a.calls, func(p inPlugin) bool { return p.call == c })
	if a.waiting > 0 {
		a.settled.Broadcast()
	}
}
