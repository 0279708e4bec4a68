package launcher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"
)

const (
	// attachTimeout bounds one attempt to attach a container.
	attachTimeout = 10 * time.Second
	// detachTimeout bounds how long a container's end waits for a plugin to close its session.
	detachTimeout = 5 * time.Second
	// maxFailureText bounds what a plugin can have logged of one failure, in bytes.
	maxFailureText = 1024
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

// Caller is the broker's side of the notification that a plugin has: its answers to the plugin's questions.
type Caller interface {
	ReadMemory(address uint64, n uint32, asString bool) *wire.Memory
	Valid() bool
}

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

// Plugin is the plugin that the session is with.
func (s *Session) Plugin() *Plugin { return s.plugin }

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
		if !errors.Is(a.err, ErrDied) {
			return a, a.err
		}
		select {
		case <-current.dead:
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
	response, err := a.process.rpc.Attach(ctx, request)
	switch {
	case err != nil:
		a.err = classify(ctx, a.process, err)
	case response.GetRefused() != "":
		a.err = fmt.Errorf("%w: %s", ErrRefused, bound(response.GetRefused()))
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

// Dialogue is what is said about one notification. Its messages are used again for the next one, so that none needs memory
// of its own: what Handle returns is valid until then.
type Dialogue struct {
	Notification wire.Notification // what the broker says; the session and what goes with a pidfd are put in by Handle

	first    wire.BrokerMessage
	payload  wire.BrokerMessage_Notification
	answer   wire.PluginMessage
	kind     wire.PluginMessage_Response
	response wire.Response
}

// opening is the message with the notification.
func (d *Dialogue) opening() *wire.BrokerMessage {
	d.payload.Notification, d.first.Message = &d.Notification, &d.payload
	return &d.first
}

// blank is an empty message for what the plugin says next, most often a response, for which there is room.
func (d *Dialogue) blank() *wire.PluginMessage {
	d.response.Reset()
	d.answer.Reset()
	d.kind.Response, d.answer.Message = &d.response, &d.kind
	return &d.answer
}

// Handle gives the notification to the plugin and returns its response, with the descriptor that an ADDFD response carries.
// The calling thread is on the processor cpu. It returns at the deadline, or when the caller is gone, at the latest. The error wraps ErrDied, ErrDisabled, ErrRefused,
// ErrGone, context.DeadlineExceeded or ctx's cause, or says how the plugin failed.
func (s *Session) Handle(ctx context.Context, d *Dialogue, caller Caller, timeout time.Duration, cpu int) (*wire.Response, *Descriptor, error) {
	a := s.ready()
	if a == nil {
		return s.handleByStream(ctx, &d.Notification, caller, timeout)
	}
	l := a.process.lanes.take(cpu)
	if l == nil {
		return s.handleByStream(ctx, &d.Notification, caller, timeout)
	}
	d.Notification.Session = a.id
	response, added, err := l.handle(ctx, a.process, d, caller, time.Now().Add(timeout))
	if err != nil {
		a.process.suspectAfter(err, s.plugin.hclog)
	}
	return response, added, err
}

// ready is the container's attachment if it is there and its process lives.
func (s *Session) ready() *attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || !s.last.succeeded() || s.last.process.isDead() {
		return nil
	}
	return s.last
}

// handleByStream is for a plugin that takes no lanes, and for a container that has to be attached first.
func (s *Session) handleByStream(ctx context.Context, n *wire.Notification, caller Caller, timeout time.Duration) (*wire.Response, *Descriptor, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx, cancelCause := context.WithCancelCause(ctx)
	defer cancelCause(nil)
	watch := startWatch(caller.Valid, func() { cancelCause(ErrGone) })
	defer watch.stop()

	a, err := s.ensure(ctx)
	if err != nil {
		return nil, nil, err
	}
	n.Session, n.HasPidfd, n.ValidAt = a.id, false, 0
	response, added, err := a.process.handle(ctx, n, caller)
	if err == nil {
		return response, added, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	a.process.suspectAfter(err, s.plugin.hclog)
	return nil, nil, classify(ctx, a.process, err)
}

// handle carries one notification over a stream of its own. The stream ends with the context, which tells the plugin
// that the broker has what it needs.
func (p *process) handle(ctx context.Context, n *wire.Notification, caller Caller) (*wire.Response, *Descriptor, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.rpc.Handle(ctx)
	if err != nil {
		return nil, nil, err
	}
	// A copy: the stream may look at a message after it is sent.
	next := &wire.BrokerMessage{Message: &wire.BrokerMessage_Notification{Notification: protobuf.Clone(n).(*wire.Notification)}}
	for {
		if err := stream.Send(next); err != nil {
			// The stream's own error says more than Send's EOF.
			if _, recvErr := stream.Recv(); recvErr != nil {
				err = recvErr
			}
			return nil, nil, err
		}
		message, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		if response := message.GetResponse(); response != nil {
			added, err := p.addedDescriptor(response)
			return response, added, err
		}
		if next, err = answer(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// answer answers a plugin's question.
func answer(question *wire.PluginMessage, caller Caller) (*wire.BrokerMessage, error) {
	switch q := question.GetMessage().(type) {
	case *wire.PluginMessage_ReadMemory:
		memory := caller.ReadMemory(q.ReadMemory.GetAddress(), q.ReadMemory.GetLength(), q.ReadMemory.GetString_())
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Memory{Memory: memory}}, nil
	case *wire.PluginMessage_CheckValid:
		validity := &wire.Validity{Valid: caller.Valid()}
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: validity}}, nil
	default:
		return nil, fmt.Errorf("the plugin sent an unknown message")
	}
}

// addedDescriptor takes the descriptor of an ADDFD response while the plugin keeps it open.
func (p *process) addedDescriptor(response *wire.Response) (*Descriptor, error) {
	add := response.GetAddFd()
	if add == nil {
		return nil, nil
	}
	return p.descriptor(int(add.GetFd()))
}

// classify makes one of this package's errors of what a call returned. A plugin's death shows as a broken connection
// before the lifeline tells of it.
func classify(ctx context.Context, p *process, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case status.Code(err) == codes.Canceled:
		return ErrGone
	case p.isDead(), status.Code(err) == codes.Unavailable:
		return ErrDied
	case status.Code(err) == codes.DeadlineExceeded:
		return context.DeadlineExceeded
	default:
		if s, ok := status.FromError(err); ok {
			return errors.New(bound(s.Message()))
		}
		return err
	}
}

// bound cuts what a plugin says.
func bound(text string) string {
	if len(text) > maxFailureText {
		return strings.ToValidUTF8(text[:maxFailureText], "") + "..."
	}
	return text
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
	if a.process.isDead() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachTimeout)
	defer cancel()
	if _, err := a.process.rpc.Detach(ctx, &wire.DetachRequest{Session: a.id}); err != nil && !a.process.isDead() {
		s.plugin.log.Warn().Err(err).Str("container", s.container.GetId()).Msg("detaching a container")
	}
}
