package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/sdk/proto"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// detachTimeout bounds how long a container's end waits for a plugin to close its session.
const detachTimeout = 5 * time.Second

var lastSession atomic.Uint64

// Session is a container's use of a plugin. It survives restarts of the plugin: the container is attached again at its
// next notification.
type Session struct {
	plugin  *Plugin
	id      uint64
	request *proto.AttachRequest

	mu       sync.Mutex
	attached *process
}

// Caller is the broker's side of the notification that a plugin has: its answers to the plugin's questions.
type Caller interface {
	ReadMemory(address uint64, n uint32, asString bool) *proto.Memory
	Valid() bool
}

// Attach attaches a container to the plugin. settings is a JSON object with every setting of the manifest. The error
// wraps ErrRefused if the plugin does not take it.
func (p *Plugin) Attach(ctx context.Context, container *proto.Container, settings string) (*Session, error) {
	id := lastSession.Add(1)
	s := &Session{plugin: p, id: id, request: &proto.AttachRequest{Session: id, Container: container, SettingsJson: settings}}
	if _, err := s.ensure(ctx); err != nil {
		return nil, fmt.Errorf("plugin %s: %w", p.spec.Name, err)
	}
	return s, nil
}

// Plugin is the plugin that the session is with.
func (s *Session) Plugin() *Plugin { return s.plugin }

// ensure gives the running process, with the container attached to it.
func (s *Session) ensure(ctx context.Context) (*process, error) {
	current, err := s.plugin.running(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if current == s.attached {
		return current, nil
	}
	response, err := current.rpc.Attach(ctx, s.request)
	if err != nil {
		return nil, classify(ctx, current, err)
	}
	if response.GetRefused() != "" {
		return nil, fmt.Errorf("%w: %s", ErrRefused, response.GetRefused())
	}
	s.attached = current
	return current, nil
}

// Handle gives the notification to the plugin and returns its response, with the file that an ADDFD response carries.
// The error wraps ErrDied, ErrDisabled, ErrRefused, ErrGone or the context's cause, or says how the plugin failed.
func (s *Session) Handle(ctx context.Context, n *proto.Notification, caller Caller) (*proto.Response, *os.File, error) {
	current, err := s.ensure(ctx)
	if err != nil {
		return nil, nil, err
	}
	n.Session = s.id
	response, file, err := current.handle(ctx, n, caller)
	if err == nil {
		return response, file, nil
	}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		current.suspect(s.plugin.hclog)
	}
	return nil, nil, classify(ctx, current, err)
}

// handle carries one notification over a stream of its own. The stream ends with the context, which tells the plugin
// that the broker has what it needs.
func (p *process) handle(ctx context.Context, n *proto.Notification, caller Caller) (*proto.Response, *os.File, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.rpc.Handle(ctx)
	if err != nil {
		return nil, nil, err
	}
	next := &proto.BrokerMessage{Message: &proto.BrokerMessage_Notification{Notification: n}}
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
			file, err := p.responseFile(response)
			return response, file, err
		}
		if next, err = answer(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// answer answers a plugin's question.
func answer(question *proto.PluginMessage, caller Caller) (*proto.BrokerMessage, error) {
	switch q := question.GetMessage().(type) {
	case *proto.PluginMessage_ReadMemory:
		memory := caller.ReadMemory(q.ReadMemory.GetAddress(), q.ReadMemory.GetLength(), q.ReadMemory.GetString_())
		return &proto.BrokerMessage{Message: &proto.BrokerMessage_Memory{Memory: memory}}, nil
	case *proto.PluginMessage_CheckValid:
		validity := &proto.Validity{Valid: caller.Valid()}
		return &proto.BrokerMessage{Message: &proto.BrokerMessage_Validity{Validity: validity}}, nil
	default:
		return nil, fmt.Errorf("the plugin sent an unknown message")
	}
}

// responseFile takes the file of an ADDFD response while the plugin keeps it open.
func (p *process) responseFile(response *proto.Response) (*os.File, error) {
	add := response.GetAddFd()
	if add == nil {
		return nil, nil
	}
	return p.file(int(add.GetFd()))
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
			return errors.New(s.Message())
		}
		return err
	}
}

// Close detaches the container.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached == nil || s.attached.isDead() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), detachTimeout)
	defer cancel()
	if _, err := s.attached.rpc.Detach(ctx, &proto.DetachRequest{Session: s.id}); err != nil && !s.attached.isDead() {
		s.plugin.log.Warn().Err(err).Str("container", s.request.GetContainer().GetId()).Msg("detaching a container")
	}
	s.attached = nil
}
