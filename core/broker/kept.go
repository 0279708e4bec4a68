package broker

import (
	"bytes"
	"slices"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/protobuf/proto"
)

// Answers that found nobody are kept for the call that comes again: see again.go.

const (
	// maxKeptAnswers and maxKeptBytes bound what is kept for one container.
	maxKeptAnswers = 64
	maxKeptBytes   = 256 << 10
)

// keptAnswer is an answer that found nobody. The first call that is the same gets it.
type keptAnswer struct {
	call     identity
	response *wire.Response
	added    *lane.Descriptor
	doubtful bool // see doubt.go
	until    time.Time
	looked   bool // its thread has been looked at, or need not be before until
	waits    bool // its thread had not run when it was looked at last
}

// findKept finds the answer to a call that looks like a later one; -1: there is none. The lock is held.
func (a *again) findKept(later *identity) int {
	return slices.IndexFunc(a.kept, func(k *keptAnswer) bool { return k.call.looksLike(later) })
}

// unkeep takes out an answer. The lock is held.
func (a *again) unkeep(i int) *keptAnswer {
	k := a.kept[i]
	a.bytes -= k.size()
	a.kept = slices.Delete(a.kept, i, i+1)
	return k
}

func (k *keptAnswer) size() int { return len(k.call.captured) + k.response.SizeVT() }

// keep keeps an answer that found nobody, with the descriptor, which may be nil, and reports whether it did. One that
// has the kernel perform the call is as good a second time. Whether the caller lives, expire looks: the call is
// claimed, so that the watchdog does not help whom the container holds up here.
func (c *call) keep(response *wire.Response, added *lane.Descriptor) bool {
	if !c.known || response.GetContinue() {
		return false
	}
	return c.keepUntil(&keptAnswer{response: response, added: added, until: time.Now().Add(againTime)})
}

// keepUntil completes the answer and keeps it.
func (c *call) keepUntil(k *keptAnswer) bool {
	k.call, k.response = c.identity(), proto.Clone(k.response).(*wire.Response)
	k.call.captured = bytes.Clone(k.call.captured)
	if k.size() > maxKeptBytes || !c.attachment.useDescriptor(k.added) {
		return false
	}
	a := &c.attachment.again
	a.mu.Lock()
	a.remove(c)
	dropped := a.append(k)
	a.mu.Unlock()
	c.attachment.drop(dropped)
	return true
}

// append adds an answer, and returns those that have to go for it. The lock is held.
func (a *again) append(k *keptAnswer) (dropped []*keptAnswer) {
	if a.over {
		return []*keptAnswer{k}
	}
	a.kept = append(a.kept, k)
	a.bytes += k.size()
	for len(a.kept) > maxKeptAnswers || a.bytes > maxKeptBytes {
		dropped = append(dropped, a.unkeep(0))
	}
	if !a.looking {
		a.schedule(time.Now())
	}
	return dropped
}

// schedule has the timer call expired when an answer is due. The lock is held.
func (a *again) schedule(now time.Time) {
	if a.expiry != nil {
		a.expiry.Stop()
	}
	if a.expiry = nil; len(a.kept) > 0 && !a.over {
		next := slices.MinFunc(a.kept, func(k, l *keptAnswer) int { return k.due().Compare(l.due()) })
		a.expiry = time.AfterFunc(next.due().Sub(now), a.expired)
	}
}

// due returns when the answer's thread is to be looked at: at once, when the answer is new.
func (k *keptAnswer) due() time.Time {
	if !k.looked {
		return time.Time{}
	}
	return k.until
}

// expire drops the answers whose time is over.
func (a *attachment) expire() { a.drop(a.again.expire(time.Now())) }

// expire looks at the threads of answers that are due, and takes out those that nobody will get. The container can hold
// up who looks (see capture.Since): one goroutine does, and nothing is locked meanwhile.
func (a *again) expire(now time.Time) (dropped []*keptAnswer) {
	due := a.beginLook(now)
	looks := make([]look, len(due))
	for i, k := range due {
		looks[i] = k.call.look()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if due != nil {
		a.looking = false
	}
	for i, k := range due {
		if at := slices.Index(a.kept, k); at >= 0 && !a.keepOn(k, looks[i], now) {
			dropped = append(dropped, a.unkeep(at))
		}
	}
	if !a.looking {
		a.schedule(now)
	}
	return dropped
}

// beginLook returns the answers that are due; nil: there are none, or another goroutine looks at threads already.
func (a *again) beginLook(now time.Time) (due []*keptAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.looking {
		return nil
	}
	for _, k := range a.kept {
		if !k.due().After(now) {
			due = append(due, k)
		}
	}
	a.looking = due != nil
	return due
}

// look is what was seen of the thread of a kept answer.
type look struct {
	lives bool
	isIn  bool // it has not run since a signal took it out of its call, as one that is stopped, or frozen
}

func (i *identity) look() look {
	since, err := capture.Since(int(i.tid))
	if err != nil || since.After(i.received) {
		return look{}
	}
	return look{lives: true, isIn: capture.IsIn(int(i.tid), i.nr, &i.args, i.ip)}
}

// keepOn reports whether the answer is kept on. Its time begins anew for a thread that has not run, and once more when
// it has: that may have been just now. The lock is held.
func (a *again) keepOn(k *keptAnswer, l look, now time.Time) bool {
	waited := k.waits
	k.looked, k.waits = true, l.isIn
	switch {
	case !l.lives:
		return false
	case k.until.After(now):
	case l.isIn || waited:
		k.until = now.Add(againTime)
	default:
		return false
	}
	a.interrupted.Store(true)
	return true
}

// endAgain drops what is kept when the container is gone: nothing is from then on.
func (a *attachment) endAgain() {
	a.again.mu.Lock()
	kept := a.again.kept
	a.again.over, a.again.kept, a.again.bytes = true, nil, 0
	a.again.schedule(time.Now())
	a.again.mu.Unlock()
	a.drop(kept)
}

// drop closes the descriptors of answers that nobody gets.
func (a *attachment) drop(kept []*keptAnswer) {
	for _, k := range kept {
		a.freeDescriptor(k.added)
		if k.added != nil {
			k.added.Close()
		}
	}
}

// useDescriptor reports whether the descriptor, which may be nil, can be kept.
func (a *attachment) useDescriptor(d *lane.Descriptor) bool {
	return d == nil || a.broker.descriptors.use(1) == nil
}

func (a *attachment) freeDescriptor(d *lane.Descriptor) {
	if d != nil {
		a.broker.descriptors.free(1)
	}
}
