package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// attachTimeout bounds one attempt to attach a container.
	attachTimeout = 10 * time.Second
	// detachTimeout bounds how long a container's end waits for a plugin to close its session.
	detachTimeout = 5 * time.Second
)

var lastSession atomic.Uint64

// Session is a container's use of a plugin. It survives restarts of the plugin: the next notification attaches the
// container again.
type Session struct {
	plugin    *Plugin
	container *wire.Container
	settings  string
	counter   Counter
	kept      func() []*wire.Entry
	trouble   atomic.Pointer[trouble] // nil: none

	mu   sync.Mutex
	last *attempt
}

// attempt is one attempt to attach the container to one run of the plugin. It does not belong to a call: when a call
// gives up, the others must still learn whether the plugin has the container.
type attempt struct {
	session *Session
	process *process
	id      uint64
	err     error

	// Guarded by Session.mu. Both are nil once the attempt is over.
	done   chan struct{} // closed when err is set
	cancel func()
}

// over reports whether err is set. The session is locked.
func (a *attempt) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return a.done == nil
	}
}

// failed reports whether the attempt is over and the plugin does not have the container. The session is locked.
func (a *attempt) failed() bool { return a.over() && a.err != nil }

// succeeded reports whether the attempt is over and the plugin has the container. The session is locked.
func (a *attempt) succeeded() bool { return a.over() && a.err == nil }

// NewSession makes a session of the container, which Attach or the first notification attaches. settings is a JSON
// object with every setting of the manifest. The counter is told of calls that Handle gives up. kept gives what the
// plugin has kept about the container.
func (p *Plugin) NewSession(container *wire.Container, settings string, counter Counter, kept func() []*wire.Entry) *Session {
	return &Session{plugin: p, container: container, settings: settings, counter: counter, kept: kept}
}

// Attach attaches the container to the plugin. The error wraps ErrRefused if the plugin does not take it; after another
// error the next notification tries again.
func (s *Session) Attach(ctx context.Context) error {
	if _, err := s.ensure(ctx); err != nil {
		return fmt.Errorf("plugin %s: %w", s.plugin.spec.Name, err)
	}
	return nil
}

// ensure attaches the container to the running process, if it is not attached yet. A process that dies meanwhile has
// not seen the notification: ensure waits for the next one.
func (s *Session) ensure(ctx context.Context) (*attempt, error) {
	for {
		current, err := s.running(ctx)
		if err != nil {
			return nil, err
		}
		a, done := s.attachTo(current)
		if done != nil {
			select {
			case <-done:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if !errors.Is(a.err, lane.ErrDied) {
			return a, a.err
		}
		select {
		case <-current.Dead():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// running returns the current process for the container. Which plugin has it can change while it is waited for.
func (s *Session) running(ctx context.Context) (*process, error) {
	for {
		home, err := s.home()
		if err != nil {
			return nil, err
		}
		current, err := home.running(ctx)
		if now, _ := s.home(); now == home {
			return current, err
		}
	}
}

// attachTo returns the attempt to attach the container to this process: the last one, or a new one if that has failed
// or was for another process. The channel is closed when the attempt is over; nil: it is.
func (s *Session) attachTo(p *process) (*attempt, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.process != p || s.last.failed() {
		ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
		s.last = &attempt{session: s, process: p, id: lastSession.Add(1), done: make(chan struct{}), cancel: cancel}
		go s.attach(ctx, s.last, s.last.done)
	}
	return s.last, s.last.done
}

func (s *Session) attach(ctx context.Context, a *attempt, done chan<- struct{}) {
	defer s.finish(a)
	request := &wire.AttachRequest{Session: a.id, Container: s.container, SettingsJson: s.settings, Kept: s.kept(), Features: wire.Features()}
	response, err := a.process.RPC.Attach(ctx, request)
	a.process.learn(ctx, err)
	switch {
	case err != nil:
		a.err = classify(ctx, a.process, err)
	case response.GetRefused() != "":
		a.err = fmt.Errorf("%w: %s", ErrRefused, lane.Bound(response.GetRefused()))
	}
	close(done)
	if err != nil {
		s.checkDeath(a.process, a.err)
		s.detach(a) // the plugin may have attached it all the same
	}
}

// finish releases what an attempt needed while it was under way.
func (s *Session) finish(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.cancel()
	a.cancel, a.done = nil, nil
}

// Handle gives the notification to the plugin and returns its response, with the descriptor that an ADDFD response
// carries. The calling thread is on the processor cpu. Handle returns at the deadline, or when the caller is gone, at
// the latest; at once, if the plugin is down and not started again before the deadline, or the container is
// quarantined. A call whose process dies may be shown to the next one: see repeat.go. The error wraps lane.ErrDied,
// ErrDown, ErrQuarantined, ErrRefused, lane.ErrGone, context.DeadlineExceeded or ctx's cause, or says how the plugin
// failed.
func (s *Session) Handle(
	ctx context.Context, d *lane.Dialogue, caller lane.Caller, timeout time.Duration, cpu int,
) (*wire.Response, *lane.Descriptor, error) {
	deadline := time.Now().Add(timeout)
	response, added, run, err := s.try(ctx, d, caller, deadline, cpu)
	if err == nil && s.plugin.losesAnswer() {
		err = run.lose(added)
	}
	switch {
	case err == nil:
		return response, added, nil
	case run != nil && errors.Is(err, lane.ErrDied):
		return s.repeat(ctx, d, caller, deadline, cpu, run, err)
	default:
		s.checkDeath(run, err)
		return nil, nil, err
	}
}

// try shows the notification to the running process, which it returns too; nil: there is none.
func (s *Session) try(
	ctx context.Context, d *lane.Dialogue, caller lane.Caller, deadline time.Time, cpu int,
) (*wire.Response, *lane.Descriptor, *process, error) {
	if err := s.check(); err != nil {
		return nil, nil, nil, err
	}
	a := s.ready()
	if a == nil {
		var err error
		if a, err = s.await(ctx, caller, deadline); err != nil {
			return nil, nil, nil, err
		}
	}
	d.Notification.Session = a.id
	l := a.process.Lanes.Take(cpu)
	if l == nil {
		response, added, err := s.handleByStream(ctx, d, caller, deadline, a.process)
		return response, added, a.process, err
	}
	l.Keeper = a
	response, added, err := l.Handle(ctx, d, caller, deadline)
	if meansSilence(err) {
		a.process.suspect()
	}
	return response, added, a.process, err
}

// await attaches the container, and waits for the plugin to run before.
func (s *Session) await(ctx context.Context, caller lane.Caller, deadline time.Time) (*attempt, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	ctx, release := lane.WhileWaiting(ctx, lateCaller{caller, s.late})
	defer release()
	return s.ensure(ctx)
}

// checkDeath has the container blamed if the process, which may be nil, has died, or seems to have, with what ended so.
func (s *Session) checkDeath(p *process, err error) {
	if err != nil && p != nil && (errors.Is(err, lane.ErrDied) || p.IsDead()) {
		s.blame(p)
	}
}

// ready returns the attempt that attached the container, if there is one and its process lives.
func (s *Session) ready() *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || !s.last.succeeded() || s.last.process.IsDead() || s.last.process.left.Load() {
		return nil
	}
	return s.last
}

// handleByStream is for a plugin without lanes.
func (s *Session) handleByStream(
	ctx context.Context, d *lane.Dialogue, caller lane.Caller, deadline time.Time, run *process,
) (*wire.Response, *lane.Descriptor, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	ctx, release := lane.WhileWaiting(ctx, lateCaller{caller, run.late})
	defer release()

	run.streams.Add(1)
	defer run.streams.Add(-1)
	stream := lane.Stream{Plugin: run.RPC, Pool: &run.Lanes}
	response, added, err := stream.Handle(ctx, d, caller)
	run.learn(ctx, err)
	if err == nil {
		return response, added, nil
	}
	unsent := lane.IsUnsent(err)
	err = classify(ctx, run, err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		go s.keepStream(run)
	case unsent && (errors.Is(err, lane.ErrDied) || run.IsDead() || linux.IsExiting(run.PID)):
		err = lane.ErrUnread
	}
	return nil, nil, err
}

// classify turns what a call returned into one of Handle's errors. A plugin's death shows as a broken connection before
// the lifeline ends.
func classify(ctx context.Context, p *process, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case p.IsDead(), status.Code(err) == codes.Unavailable: // the broker closes a dead one's connection: Canceled
		return lane.ErrDied
	case status.Code(err) == codes.Canceled:
		return lane.ErrGone
	case status.Code(err) == codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		if s, ok := status.FromError(err); ok {
			return errors.New(lane.Bound(s.Message()))
		}
		return err
	}
}

// Close detaches the container, when none of its calls is being handled.
func (s *Session) Close() {
	s.detachLast()
	if t := s.trouble.Load(); t != nil {
		t.close()
	}
}

// detachLast detaches the container from the process that it is attached to, if there is one.
func (s *Session) detachLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return
	}
	if s.last.done != nil {
		s.last.cancel()
		<-s.last.done
	}
	if s.last.err == nil {
		s.detach(s.last)
	}
}

// detach tells the plugin that the container is gone.
func (s *Session) detach(a *attempt) {
	if a.process.IsDead() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachTimeout)
	defer cancel()
	if _, err := a.process.RPC.Detach(ctx, &wire.DetachRequest{Session: a.id}); err != nil && !a.process.IsDead() {
		s.plugin.log.Warn().Err(err).Str("container", s.container.GetId()).Msg("detaching a container")
	}
}
