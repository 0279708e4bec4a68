package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Left is what a broker that has ended left of one container. Its files belong to Adopt.
type Left struct {
	Record     *record.Record
	Namespace  *os.File            // see [container.Restore]
	Listeners  map[uint64]*os.File // by their numbers
	Assignment Assignment          // made of what the record says
}

// Adopt goes on where a broker has ended: with its containers, and with the calls that it had received. The generation
// is theirs. What cannot be adopted is closed, and the log says why. ctx is for the plugins to attach the containers.
// Adopt must be called before the first Attach.
func (b *Broker) Adopt(ctx context.Context, generation *Generation, containers []Left, calls []*journal.Slot) {
	generation.hold()
	defer generation.release()
	var mu sync.Mutex
	sources := map[uint64]*listener.Listener{}
	limited(len(containers), func(i int) {
		listeners, err := b.adopt(ctx, generation, containers[i])
		if err != nil {
			b.log.Error().Err(err).Msg("container not adopted: its calls get ENOSYS")
		}
		mu.Lock()
		defer mu.Unlock()
		for _, l := range listeners {
			sources[sourceOf(l).number] = l
		}
	})
	for _, slot := range b.sift(calls, sources) {
		b.resume(slot, sources[slot.Source()])
	}
	for _, l := range sources {
		b.rearm(l, l.Arm())
	}
}

// Sort gives each record the descriptors that are named for it. Records without any are left out: their containers are
// lost, or have ended, and the record of one that has ended is removed. Descriptors without a record are closed.
func (b *Broker) Sort(records []*record.Record, files []keep.Descriptor) []Left {
	found := map[uint64]*Left{}
	for _, r := range records {
		b.numbers.above(r.Number)
		found[r.Number] = &Left{Record: r, Listeners: map[uint64]*os.File{}}
	}
	for _, kept := range files {
		if !take(found, kept) {
			b.log.Error().Str("descriptor", kept.Name).Msg("a descriptor in the store of which no record tells: it is closed")
			b.ForgetDescriptor(kept.Name)
			kept.File.Close()
		}
	}
	var sorted []Left
	for _, r := range records {
		if left := found[r.Number]; left.Namespace != nil {
			sorted = append(sorted, *left)
		} else {
			b.abandon(left)
			b.lose(r)
		}
	}
	return sorted
}

// take gives a descriptor to the record that it is named for, if there is one.
func take(found map[uint64]*Left, kept keep.Descriptor) bool {
	if n, ok := ParseName(kept.Name, namespacePrefix, 1); ok && found[n[0]] != nil {
		found[n[0]].Namespace = kept.File
		return true
	}
	if n, ok := ParseName(kept.Name, listenerPrefix, 2); ok && found[n[0]] != nil {
		found[n[0]].Listeners[n[1]] = kept.File
		return true
	}
	return false
}

// lose notes a container whose descriptors nobody has any more.
func (b *Broker) lose(r *record.Record) {
	if !r.Container.Alive() {
		b.state.Records.Remove(r.Number)
		return
	}
	b.log.Error().Str("container", r.Container.Claim.ID).
		Msg("the container is lost: its listener ended with the daemon, and its calls get ENOSYS until it is created anew")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = append(b.lost, r)
}

// adoptersPerProcessor is how many containers are adopted at once: the plugins are waited for.
const adoptersPerProcessor = 4

// limited calls fn with each number below n, for some of them at once.
func limited(n int, fn func(i int)) {
	var calls sync.WaitGroup
	free := make(chan struct{}, adoptersPerProcessor*runtime.GOMAXPROCS(0))
	for i := range n {
		free <- struct{}{}
		calls.Go(func() {
			defer func() { <-free }()
			fn(i)
		})
	}
	calls.Wait()
}

// adopt makes the attachment of a container again. Its listeners are silent until they are armed.
func (b *Broker) adopt(ctx context.Context, generation *Generation, left Left) ([]*listener.Listener, error) {
	b.numbers.above(left.Record.Number)
	for number := range left.Listeners {
		b.numbers.above(number)
	}
	a, err := b.restore(generation, left)
	if err != nil {
		b.abandon(&left)
		b.lose(left.Record)
		return nil, err
	}
	a.prepared.Do(func() { a.prepareWith(ctx, left.Assignment, left.Record) })
	a.admission.join(&b.crew)
	listeners := b.adoptListeners(a, left.Listeners)
	b.log.Info().Str("container", a.container.ID).Str("runtime", a.container.Runtime).Int("listeners", len(listeners)).Msg("container adopted")
	if left.Record.Container.Watched() {
		go b.watchAndLeave(a)
	} else {
		b.leave(a) // what adopt itself held
	}
	return listeners, nil
}

// watchAndLeave gives up what adopt held when the container is watched, who can hold up that for long.
func (b *Broker) watchAndLeave(a *attachment) {
	b.watch(a) // fails if its first process has ended
	b.leave(a)
}

// abandon closes what is left of a container, in the store too: its callers would wait for ever otherwise.
func (b *Broker) abandon(left *Left) {
	if left.Namespace != nil {
		b.ForgetDescriptor(NameOf(namespacePrefix, left.Record.Number))
		left.Namespace.Close()
	}
	for number, file := range left.Listeners {
		b.ForgetDescriptor(NameOf(listenerPrefix, left.Record.Number, number))
		file.Close()
	}
}

// restore makes the attachment, with one listener counted: the caller's.
func (b *Broker) restore(generation *Generation, left Left) (*attachment, error) {
	if left.Namespace == nil {
		return nil, fmt.Errorf("container %q: its user namespace is not in the descriptor store", left.Record.Container.Claim.ID)
	}
	c, err := container.Restore(left.Record.Container, left.Namespace)
	if err != nil {
		return nil, err
	}
	if err := b.descriptors.use(descriptorsPerContainer); err != nil {
		return nil, fmt.Errorf("container %q: %w", c.ID, err)
	}
	s := said(c.Claim)
	b.claims.adopt(s)
	a := newAttachment(b, c, s, generation)
	a.number, a.attached, a.listenerCount = left.Record.Number, left.Record.Attached, 1
	a.doubted.Store(left.Record.Doubted)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.containers[keyOf(c)] = a
	return a, nil
}

// adoptListeners adds the container's listeners to the poller. One that fails is closed.
func (b *Broker) adoptListeners(a *attachment, files map[uint64]*os.File) (listeners []*listener.Listener) {
	for number, file := range files {
		s := source{a, number}
		l, err := b.adoptListener(s, file)
		if err != nil {
			b.log.Error().Err(err).Str("container", a.container.ID).Msg("listener not adopted: its calls get ENOSYS")
			b.ForgetDescriptor(s.name())
			file.Close()
			continue
		}
		listeners = append(listeners, l)
	}
	return listeners
}

func (b *Broker) adoptListener(s source, file *os.File) (*listener.Listener, error) {
	if err := b.descriptors.use(descriptorsPerListener); err != nil {
		return nil, err
	}
	l, err := b.poller.Add(file, s)
	if err != nil {
		b.descriptors.free(descriptorsPerListener)
		return nil, err
	}
	b.mu.Lock()
	s.attachment.listenerCount++
	b.mu.Unlock()
	s.attachment.addListener(l)
	return l, nil
}

// sift returns the calls whose callers wait, and gives the other slots back. A signal may have taken a caller out of
// its call, and it may have made that again, which is another notification (again.go): this one has then come as far
// as the one before.
func (b *Broker) sift(calls []*journal.Slot, sources map[uint64]*listener.Listener) (waiting []*journal.Slot) {
	var others []*journal.Slot
	type key struct{ source, id uint64 }
	found := map[key]*journal.Slot{}
	for _, slot := range calls {
		l, id := sources[slot.Source()], key{slot.Source(), slot.ID()}
		if l == nil || !l.Valid(id.id) {
			others = append(others, slot)
			continue
		}
		// A notification that has taken another's place is in both slots for a moment.
		if twin := found[id]; twin == nil {
			found[id] = slot
		} else if twin.State() < slot.State() {
			found[id] = slot
			others = append(others, twin)
		} else {
			others = append(others, slot)
		}
	}
	for _, slot := range found {
		// One that was decided and has nobody was answered.
		i := slices.IndexFunc(others, func(o *journal.Slot) bool { return o.State() == journal.Asked && slot.IsAgain(o) })
		if i >= 0 && slot.State() == journal.Expected {
			slot.TakeOver(others[i])
		}
		waiting = append(waiting, slot)
	}
	for _, slot := range others {
		b.state.Journal.Give(slot)
	}
	return waiting
}

// resume goes on with a call that another broker has received from the listener, and whose caller waits.
func (b *Broker) resume(slot *journal.Slot, l *listener.Listener) {
	l.Hold()
	admission := attachmentOf(l).admission
	admission.resume()
	go func() {
		defer l.Release()
		d := &desk{thread: b.processors.join(), slot: slot}
		defer d.thread.leave()
		defer b.state.Journal.Give(slot)
		b.watchdog.add(&d.post)
		defer b.watchdog.remove(&d.post)
		d.cpu = d.thread.begin()
		d.begin(attachmentOf(l), l).resume()
		d.thread.end()
		admission.leave(d.post.takeSlow())
	}()
}

// resume answers a call that another broker has received, exactly once: if that had answered it, nobody waits.
func (c *call) resume() {
	if SendDecided(c.answers, c.desk.slot) {
		return
	}
	c.setResumed()
	c.handle(nil)
}

// resumed is how far another broker has brought a call. The zero value: this one has received it.
type resumed struct {
	state  journal.State
	plugin int  // that had it, if it was asked
	again  bool // the plugin is asked once more
}

// setResumed notes what the desk's slot has.
func (c *call) setResumed() {
	c.resumed = resumed{state: c.desk.slot.State(), plugin: c.desk.slot.Plugin()}
}

// errInterrupted is why a call gets EINTR that must not be done twice.
var errInterrupted = errors.New("the daemon ended while the plugin had the call, which may be done: it is not repeated")

// askAgain prepares a call for a plugin that had it already when another broker ended with it. If the plugin may not
// have it again (Syscall.repeat), the decision is the answer: who gets EINTR may look whether it was done.
func (c *call) askAgain(p *boundPlugin, r route) (d decision, over bool) {
	had := c.resumed.state == journal.Asked && c.resumed.plugin == r.plugin
	c.resumed.again = had && r.syscall.GetRepeat() != wire.Repeat_REPEAT_NEVER
	if !had || c.resumed.again {
		return decision{}, false
	}
	return decision{
		plugin: p.binding.Plugin.Name(), response: errnoResponse(int32(unix.EINTR)), reason: failureReason(errInterrupted), err: errInterrupted,
	}, true
}

// SendDecided sends the answer that another broker has found, unless it has sent it already. It reports whether there
// is one: a descriptor has ended with that broker, so that the call goes on as one that the plugin had.
func SendDecided(answers Answers, call *journal.Slot) bool {
	if call.State() != journal.Decided {
		return false
	}
	id := call.ID()
	switch kind, value := call.Answer(); kind {
	case journal.Value:
		answers.SendValue(id, value)
	case journal.Errno:
		answers.SendErrno(id, unix.Errno(value))
	case journal.Descriptor:
		call.Ask(call.Plugin())
		return false
	default:
		answers.SendContinue(id)
	}
	return true
}

// HandOver ends the broker for the next one: no more calls are handled, and those under way may finish for a moment.
// The others are left in the journal, and all that Adopt needs in the store. The process must end then: its threads
// may answer calls until it does.
func (b *Broker) HandOver() {
	b.handingOver.Store(true)
	b.poller.Close()
	var ending sync.WaitGroup
	ending.Go(func() { waitFor(closeGrace, b.workers.Wait) })
	for _, a := range b.attachmentsOf(func(string) bool { return true }) {
		ending.Go(func() { a.admission.waitFor(closeGrace) })
	}
	ending.Wait()
}
