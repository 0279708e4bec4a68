package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
)

// attachment is a container with its sessions: all that does not change from one notification to the next.
type attachment struct {
	broker    *Broker
	container *container.Container
	policy    *Policy
	routes    routes
	sessions  []session
	admission *admission
	prepared  sync.Once
	attached  time.Time
	calls     atomic.Uint64
	failures  atomic.Uint64

	ctx    context.Context // ends with the container, or the broker
	cancel context.CancelCauseFunc

	// Guarded by Broker.mu.
	listenerCount int  // with connections
	watched       bool // see Broker.watch

	mu        sync.Mutex
	listeners map[*listener.Listener]struct{}
	choice    Choice // of the policy, once prepared
}

// session is the container's use of one plugin. Where the plugin refused the container there is no launcher session, and
// its calls get the failure verdict.
type session struct {
	*Use
	session  *launcher.Session
	refused  error
	fellBack error // why the plugin refused Use.Settings, where it took Use.Fallback
}

// routes lead from a syscall's name to the plugins that take it, in the order in which they are asked.
type routes map[string][]route

// route leads to a plugin that takes a syscall.
type route struct {
	session int // its index
	syscall *wire.Syscall
}

// newRoutes routes calls to the plugins of the uses, of each of which there is a session with the same index.
func newRoutes(uses []Use) routes {
	rs := routes{}
	for i, use := range uses {
		for _, sc := range wire.Narrow(use.Plugin.Manifest(), use.Settings).GetSyscalls() {
			rs[sc.GetName()] = append(rs[sc.GetName()], route{session: i, syscall: sc})
		}
	}
	return rs
}

func newAttachment(b *Broker, c *container.Container, policy *Policy) *attachment {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &attachment{
		broker: b, container: c, policy: policy.hold(), ctx: ctx, cancel: cancel,
		admission: newAdmission(policy.Limits, b.crew.max),
		attached:  time.Now(),
		listeners: map[*listener.Listener]struct{}{},
	}
}

// prepare attaches the container to its plugins, all at once, before its first listener is armed.
func (a *attachment) prepare(ctx context.Context) {
	a.prepared.Do(func() {
		choice := a.policy.choose(a.container)
		if a.container.Privileged {
			a.broker.log.Warn().Str("container", a.container.ID).Msg("the container has no user namespace of its own: its calls are left to the kernel")
		} else {
			a.openSessions(ctx, choice)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.choice = choice
	})
}

// openSessions attaches the container to the plugins of the choice, and routes calls to them.
func (a *attachment) openSessions(ctx context.Context, choice Choice) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	var attaching sync.WaitGroup
	wire := a.container.Wire()
	a.sessions = make([]session, len(choice.Uses))
	for i := range a.sessions {
		s := &a.sessions[i]
		s.Use = &choice.Uses[i]
		attaching.Go(func() { a.attachSession(ctx, s, wire) })
	}
	attaching.Wait()
	a.routes = a.policy.routesOf(a.uses(choice))
}

// uses are those of the sessions: those of the choice, but for settings that a plugin has refused.
func (a *attachment) uses(choice Choice) []Use {
	if !slices.ContainsFunc(a.sessions, func(s session) bool { return s.fellBack != nil }) {
		return choice.Uses
	}
	var uses []Use
	for _, s := range a.sessions {
		uses = append(uses, *s.Use)
	}
	return uses
}

// chosen is what the container gets; the zero Choice until it is prepared.
func (a *attachment) chosen() Choice {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.choice
}

func (a *attachment) attachSession(ctx context.Context, s *session, wire *wire.Container) {
	log := a.broker.log.With().Str("container", a.container.ID).Str("plugin", s.Plugin.Name()).Logger()
	opened := s.Plugin.NewSession(wire, s.Settings)
	err := opened.Attach(ctx)
	if errors.Is(err, launcher.ErrRefused) && s.Fallback != "" {
		log.Warn().Err(err).Msg("the plugin refuses settings of the container's annotations: they are ignored")
		use := *s.Use
		use.Settings = s.Fallback
		s.fellBack, s.Use = err, &use
		opened = s.Plugin.NewSession(wire, s.Settings)
		err = opened.Attach(ctx)
	}
	if errors.Is(err, launcher.ErrRefused) {
		log.Error().Err(err).Msg("the plugin does not serve this container: its calls get the failure verdict")
		s.refused = err
		return
	}
	if err != nil {
		log.Warn().Err(err).Msg("the plugin could not attach the container yet: its next call tries again")
	}
	s.session = opened
}

// addListener says whether the attachment still takes listeners.
func (a *attachment) addListener(l *listener.Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listeners == nil {
		return false
	}
	a.listeners[l] = struct{}{}
	return true
}

// removeListener says whether the listener was there.
func (a *attachment) removeListener(l *listener.Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.listeners[l]
	delete(a.listeners, l)
	return there
}

// end ends what is left of the container: its calls (their callers are gone), its sessions, its hold on the policy.
func (a *attachment) end(cause error) {
	a.cancel(cause)
	a.admission.wait()
	var closing sync.WaitGroup
	for _, s := range a.sessions {
		if s.session != nil {
			closing.Go(s.session.Close)
		}
	}
	closing.Wait()
	a.container.Close()
	a.policy.release()
}

// shutDown is end for a container that lives on without the broker. Once no call is being handled and none can enter, it
// alone receives.
func (a *attachment) shutDown() {
	a.prepared.Do(func() {}) // waits for a preparation that is under way
	listeners := a.takeListeners()
	a.admission.shut()
	a.admission.waitFor(closeGrace)
	a.cancel(errBrokerClosed)
	a.admission.wait()
	end := time.Now().Add(drainTime)
	for l := range listeners {
		a.drain(l, end)
		l.Close()
	}
	a.end(errBrokerClosed)
}

// takeListeners leaves the attachment none, and lets it take no more.
func (a *attachment) takeListeners() map[*listener.Listener]struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	listeners := a.listeners
	a.listeners = nil
	return listeners
}

// drain gives the calls that nobody has received yet the failure verdict, until the time end: a container that calls
// again and again must not keep the broker.
func (a *attachment) drain(l *listener.Listener, end time.Time) {
	d := &desk{cpu: a.broker.processors.next()}
	for time.Now().Before(end) {
		pending, _, err := l.Poll(0)
		if err != nil || !pending {
			return
		}
		c := d.begin(a, l)
		if err := l.Receive(&c.n); err != nil {
			if errors.Is(err, notify.ErrGone) {
				continue
			}
			return
		}
		c.handle()
	}
}
