package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/internal/lane"
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

// Session is a container's use of a plugin. It survives restarts of the plugin: the container is attached again at its
// next notification.
type Session struct {
	plugin    *Plugin
	container *wire.Container
	settings  string

	mu   sync.Mutex
	last *attachment
}

// attachment is one attempt to attach the container to one run of the plugin. It belongs to no call: one that gives up
// must not leave the others in doubt whether the plugin has the container.
type attachment struct {
	process *process
	id      uint64
	err     error

	// Guarded by Session.mu. Both are nil once the attempt is over.
	done   chan struct{} // closed when err is set
	cancel func()
}

// over says whether err is set. The session is locked.
func (a *attachment) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return a.done == nil
	}
}

// failed says whether the attempt is over and came to nothing. The session is locked.
func (a *attachment) failed() bool { return a.over() && a.err != nil }

// succeeded says whether the attempt is over and the plugin has the container. The session is locked.
func (a *attachment) succeeded() bool { return a.over() && a.err == nil }

// NewSession is a session of the container, which Attach or its first notification attaches. settings is a JSON object
// with every setting of the manifest.
func (p *Plugin) NewSession(container *wire.Container, settings string) *Session {
	return &Session{plugin: p, container: container, settings: settings}
}

// Attach attaches the container to the plugin. The error wraps ErrRefused if the plugin does not take it; after another
// error the next notification tries again.
func (s *Session) Attach(ctx context.Context) error {
	if _, err := s.ensure(ctx); err != nil {
		return fmt.Errorf("plugin %s: %w", s.plugin.spec.Name, err)
	}
	return nil
}

// ensure gives the container's attachment to the running process. One that dies on the way has had nothing of the
// notification: the next run is waited for.
func (s *Session) ensure(ctx context.Context) (*attachment, error) {
	for {
		current, err := s.plugin.running(ctx)
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

// attachTo gives the attempt to attach the container to this process, made, under way, or a new one after a failure; and what
// is closed when it is over, or nil.
func (s *Session) attachTo(p *process) (*attachment, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.process != p || s.last.failed() {
		ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
		s.last = &attachment{process: p, id: lastSession.Add(1), done: make(chan struct{}), cancel: cancel}
		go s.attach(ctx, s.last, s.last.done)
	}
	return s.last, s.last.done
}

func (s *Session) attach(ctx context.Context, a *attachment, done chan<- struct{}) {
	defer s.finish(a)
	request := &wire.AttachRequest{Session: a.id, Container: s.container, SettingsJson: s.settings}
	response, err := a.process.RPC.Attach(ctx, request)
	switch {
	case err != nil:
		a.err = classify(ctx, a.process, err)
	case response.GetRefused() != "":
		a.err = fmt.Errorf("%w: %s", ErrRefused, lane.Bound(response.GetRefused()))
	}
	close(done)
	if err != nil {
		a.process.suspectAfter(err, s.plugin.hclog)
		s.detach(a) // the plugin may have attached it all the same
	}
}

// finish lets go of what an attempt has needed.
func (s *Session) finish(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.cancel()
	a.cancel, a.done = nil, nil
}

// Handle gives the notification to the plugin and returns its response, with the descriptor that an ADDFD response carries.
// The calling thread is on the processor cpu. It returns at the deadline, or when the caller is gone, at the latest. The error wraps lane.ErrDied, ErrDisabled, ErrRefused,
// lane.ErrGone, context.DeadlineExceeded or ctx's cause, or says how the plugin failed.
func (s *Session) Handle(ctx context.Context, d *lane.Dialogue, caller lane.Caller, timeout time.Duration, cpu int) (*wire.Response, *lane.Descriptor, error) {
	a := s.ready()
	if a == nil {
		return s.handleByStream(ctx, &d.Notification, caller, timeout)
	}
	l := a.process.Lanes.Take(cpu)
	if l == nil {
		return s.handleByStream(ctx, &d.Notification, caller, timeout)
	}
	d.Notification.Session = a.id
	response, added, err := l.Handle(ctx, d, caller, time.Now().Add(timeout))
	if err != nil {
		a.process.suspectAfter(err, s.plugin.hclog)
	}
	return response, added, err
}

// ready is the container's attachment if it is there and its process lives.
func (s *Session) ready() *attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || !s.last.succeeded() || s.last.process.IsDead() {
		return nil
	}
	return s.last
}

// handleByStream is for a plugin that takes no lanes, and for a container that has to be attached first.
func (s *Session) handleByStream(ctx context.Context, n *wire.Notification, caller lane.Caller, timeout time.Duration) (*wire.Response, *lane.Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, release := lane.WhileWaiting(ctx, caller)
	defer release()

	a, err := s.ensure(ctx)
	if err != nil {
		return nil, nil, err
	}
	n.Session, n.HasPidfd = a.id, false
	response, added, err := lane.OverStream(ctx, a.process.RPC, n, caller, a.process.Descriptor)
	if err == nil {
		return response, added, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	a.process.suspectAfter(err, s.plugin.hclog)
	return nil, nil, classify(ctx, a.process, err)
}

// classify makes one of this package's errors of what a call returned. A plugin's death shows as a broken connection
// before the lifeline tells of it.
func classify(ctx context.Context, p *process, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case status.Code(err) == codes.Canceled:
		return lane.ErrGone
	case p.IsDead(), status.Code(err) == codes.Unavailable:
		return lane.ErrDied
	case status.Code(err) == codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		if s, ok := status.FromError(err); ok {
			return errors.New(lane.Bound(s.Message()))
		}
		return err
	}
}

// Close detaches the container. No call of it is being handled.
func (s *Session) Close() {
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
func (s *Session) detach(a *attachment) {
	if a.process.IsDead() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachTimeout)
	defer cancel()
	if _, err := a.process.RPC.Detach(ctx, &wire.DetachRequest{Session: a.id}); err != nil && !a.process.IsDead() {
		s.plugin.log.Warn().Err(err).Str("container", s.container.GetId()).Msg("detaching a container")
	}
}
