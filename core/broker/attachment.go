package broker

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/core/policy"
	"github.com/intercede/intercede/core/record"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
)

// attachment is a container with its plugins: all that does not change from one notification to the next. What it has
// of a policy is in its terms.
type attachment struct {
	broker     *Broker
	number     uint64 // no other container has it, of this broker's or those before it
	container  *container.Container
	said       saidBy
	generation *Generation           // of the terms; guarded by changing once there are some
	terms      atomic.Pointer[terms] // nil: it is not prepared
	ready      chan struct{}         // closed when it is
	admission  *admission
	figures    containerFigures
	audit      *audit.Log
	about      audit.Container // but for the generation, which the terms have
	refusals   refusals
	samples    samples
	prepared   sync.Once
	attached   time.Time
	calls      atomic.Uint64
	failures   atomic.Uint64
	doubted    atomic.Bool  // a listener came from a peer that is not trusted: see call.locate
	hangs      atomic.Int32 // threads of the broker that it holds up
	exchanged  atomic.Bool  // see capture.Set
	recording  sync.Mutex   // held while the record changes
	again      again

	changing sync.Mutex // held while it is changed what the container has, after prepare
	settled  bool       // that does not change any more: the container or the broker ends; guarded by changing

	ctx    context.Context // ends with the container, or the broker
	cancel context.CancelCauseFunc

	// Guarded by Broker.mu.
	listenerCount int  // with connections
	watched       bool // see Broker.watch

	mu         sync.Mutex
	hangsSince time.Time // it is quarantined for them
	listeners  map[*listener.Listener]struct{}
}

func newAttachment(b *Broker, c *container.Container, s saidBy, generation *Generation) *attachment {
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &attachment{
		broker: b, container: c, said: s, generation: generation.hold(), ctx: ctx, cancel: cancel,
		admission: newAdmission(generation.Limits, b.crew.max, b.pacer),
		audit:     audit.New(b.log),
		about:     describe(c),
		ready:     make(chan struct{}),
		attached:  time.Now(),
		number:    b.numbers.next(),
		listeners: map[*listener.Listener]struct{}{},
	}
	a.admission.throttled = b.calls
	a.again.init(a.expire)
	return a
}

// describe returns what records say of the container.
func describe(c *container.Container) audit.Container {
	d := policy.Description{Name: c.Name, Annotations: c.Annotations}.Completed()
	return audit.Container{
		ID: c.ID, Runtime: c.Runtime, Name: cmp.Or(d.Name, c.EngineName), Image: cmp.Or(d.Image, c.EngineImage), UIDs: c.Wire().GetUidMap(),
	}
}

// prepare attaches the container to its plugins before its first listener is armed.
func (a *attachment) prepare(ctx context.Context) {
	a.prepared.Do(func() {
		a.prepareWith(ctx, a.generation.assign(a.container), &record.Record{})
		a.leaveRecord()
	})
}

// prepareWith gives the container what it is assigned, and its plugins what they have kept about it, which the record
// of an earlier broker has.
func (a *attachment) prepareWith(ctx context.Context, assignment Assignment, left *record.Record) {
	if a.container.Privileged {
		assignment.Bindings = servingAny(assignment.Bindings)
		a.broker.log.Info().Str("container", a.container.ID).Strs("plugins", pluginNames(assignment.Bindings)).
			Msg("the container has no user namespace of its own: all calls but those of these plugins are left to the kernel")
	}
	plugins := a.attachPlugins(ctx, assignment.Bindings, left.Kept())
	a.terms.Store(a.newTerms(a.generation, assignment, plugins, left.Filter))
	close(a.ready)
}

// attachPlugins attaches the container to the plugins of the bindings, all at once.
func (a *attachment) attachPlugins(ctx context.Context, bindings []Binding, kept map[string]map[string][]byte) []boundPlugin {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	var attaching sync.WaitGroup
	container := a.container.Wire()
	plugins := make([]boundPlugin, len(bindings))
	for i := range plugins {
		p := &plugins[i]
		p.bind(&bindings[i], a.newStore(bindings[i].Plugin.Name(), kept), a.broker.totals.newFigures(bindings[i].Plugin.Name()))
		log := a.broker.log.With().Str("container", a.container.ID).Str("plugin", p.binding.Plugin.Name()).Logger()
		attaching.Go(func() { p.attach(ctx, container, a.admission, log) })
	}
	attaching.Wait()
	return plugins
}

// bound returns the container's use of plugins; none, if it is not prepared.
func (a *attachment) bound() []boundPlugin {
	if t := a.terms.Load(); t != nil {
		return t.plugins
	}
	return nil
}

// source is where the notifications of a container come from.
type source struct {
	*attachment
	number uint64 // no other source has it, of this broker's or those before it
}

// sourceOf returns what the listener was added to the poller with.
func sourceOf(l *listener.Listener) source { return l.Data().(source) }

// attachmentOf returns the attachment of the listener's container.
func attachmentOf(l *listener.Listener) *attachment { return sourceOf(l).attachment }

// name is the listener's in the descriptor store.
func (s source) name() string { return NameOf(listenerPrefix, s.attachment.number, s.number) }

// addListener reports whether the attachment still takes listeners.
func (a *attachment) addListener(l *listener.Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listeners == nil {
		return false
	}
	a.listeners[l] = struct{}{}
	return true
}

// removeListener reports whether the listener was there.
func (a *attachment) removeListener(l *listener.Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.listeners[l]
	delete(a.listeners, l)
	return there
}

// end ends the container's calls, whose callers are gone, and its sessions, and releases the generation.
func (a *attachment) end(cause error) {
	a.cancel(cause)
	a.settle()
	a.admission.wait()
	a.admission.quit()
	var closing sync.WaitGroup
	for _, p := range a.bound() {
		if p.session != nil {
			closing.Go(p.session.Close)
		}
	}
	closing.Wait()
	a.endAgain()
	a.container.Close()
	a.broker.descriptors.free(descriptorsPerContainer)
	a.broker.claims.free(a.said)
	a.generation.release()
}

// shutDown ends the attachment of a container that lives on without the broker. After the last call has left and none
// can enter any more, only shutDown receives from the listeners.
func (a *attachment) shutDown() {
	a.prepared.Do(func() {}) // waits for a preparation that is under way
	listeners := a.takeListeners()
	a.admission.shut()
	a.settle()
	a.admission.waitFor(closeGrace)
	a.cancel(errBrokerClosed)
	a.admission.waitFor(cancelGrace)
	a.broker.watchdog.end(a)
	a.admission.wait()
	end := time.Now().Add(drainTime)
	for l := range listeners {
		a.drain(l, end)
		l.Cut()
	}
	a.end(errBrokerClosed)
}

// takeListeners takes the listeners away from the attachment, which accepts no more.
func (a *attachment) takeListeners() map[*listener.Listener]struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	listeners := a.listeners
	a.listeners = nil
	return listeners
}

// drain gives the failure verdict to the calls that nobody has received yet, until the time end: a container that calls
// again and again must not keep the broker from closing.
func (a *attachment) drain(l *listener.Listener, end time.Time) {
	d := a.broker.newDesk(nil, false)
	defer a.broker.state.Journal.Give(d.slot)
	d.cpu = linux.Processor()
	for time.Now().Before(end) {
		pending, _, err := l.Poll(0)
		if err != nil || !pending {
			return
		}
		c, err := d.receive(l)
		switch {
		case errors.Is(err, notify.ErrGone):
		case err != nil:
			return
		default:
			c.handle(nil)
		}
	}
}
