package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/pause"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/internal/acting"
	"github.com/intercede/intercede/sdk/internal/serving"
	"github.com/intercede/intercede/sdk/target"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// server serves a Handler, over gRPC and over lanes.
type server struct {
	wire.UnimplementedPluginServer
	handler  Handler
	manifest *wire.Manifest
	syscalls map[string]*wire.Syscall
	brought  brought
	added    added

	mu       sync.Mutex
	sessions map[uint64]*attached
	running  int    // calls of all sessions
	latest   uint64 // the session of the last call; 0: there was none
}

// attached is a container's session and how many calls are in it.
type attached struct {
	session   Session
	container Container
	running   sync.WaitGroup
	count     int // of those running, guarded by server.mu
}

// The broker's limits keep a container far below these bounds. They are for calls over gRPC that hang beyond their
// deadlines, as a filesystem that the container serves itself can make them: the broker does not know when they are
// back.
const (
	// maxRunning bounds the calls of one container that a handler has at once.
	maxRunning = 256
	// maxRunningAll is how many calls of all containers a handler has before no container may have more than maxShare.
	maxRunningAll = 1024
	maxShare      = 64
)

func init() {
	serving.New = func(handler any) (serving.Server, error) { return newServer(handler.(Handler)) }
}

// newServer makes a server of the handler. The error names every fault of its manifest.
func newServer(h Handler) (*server, error) {
	manifest, err := h.Manifest().wire()
	if err != nil {
		return nil, err
	}
	s := &server{handler: h, manifest: manifest, syscalls: map[string]*wire.Syscall{}, sessions: map[uint64]*attached{}}
	s.added.open = make(chan struct{})
	for _, sc := range manifest.GetSyscalls() {
		s.syscalls[sc.GetName()] = sc
	}
	return s, nil
}

func (s *server) Manifest(context.Context, *wire.ManifestRequest) (*wire.Manifest, error) {
	return s.manifest, nil
}

func (s *server) Attach(ctx context.Context, req *wire.AttachRequest) (*wire.AttachResponse, error) {
	container := containerFromWire(req.GetContainer())
	container.Kept, container.log = keptFromWire(req.GetKept()), newContainerLog(container.ID)
	container.Features = req.GetFeatures()
	var session Session
	err := s.checkSettings(req.GetSettingsJson())
	if err == nil {
		session, err = s.attach(ctx, container, req.GetSettingsJson())
	}
	if err != nil {
		return &wire.AttachResponse{Refused: err.Error()}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		closeSession(session)
		return nil, status.FromContextError(ctx.Err()).Err() // nobody will detach it
	}
	if _, taken := s.sessions[req.GetSession()]; taken {
		closeSession(session)
		return nil, status.Errorf(codes.AlreadyExists, "session %d is attached", req.GetSession())
	}
	s.sessions[req.GetSession()] = &attached{session: session, container: container}
	return &wire.AttachResponse{}, nil
}

// attach has the handler make a session.
func (s *server) attach(ctx context.Context, container Container, settings string) (session Session, err error) {
	err = recovered(func() (err error) {
		session, err = s.handler.Attach(ctx, container, Settings(settings))
		switch {
		case err != nil:
			return err
		case session == nil:
			return errors.New("the handler returned no session")
		}
		if err = s.requireChecker(session); err != nil {
			closeSession(session)
		}
		return err
	})
	return session, err
}

func (s *server) Detach(_ context.Context, req *wire.DetachRequest) (*wire.DetachResponse, error) {
	s.mu.Lock()
	a := s.sessions[req.GetSession()]
	delete(s.sessions, req.GetSession())
	s.mu.Unlock()
	if a == nil {
		return &wire.DetachResponse{}, nil
	}
	a.running.Wait()
	if err := recovered(func() error { return closeSession(a.session) }); err != nil {
		slog.Error("closing a session", "container", a.container.ID, "error", err)
	}
	return &wire.DetachResponse{}, nil
}

// closeSession closes a session that can be closed.
func closeSession(session Session) error {
	if c, ok := session.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// enter finds the session and keeps it from being closed until the returned function is called.
func (s *server) enter(id uint64) (*attached, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.sessions[id]
	if a == nil {
		return nil, nil, status.Errorf(codes.NotFound, "session %d is not attached", id)
	}
	if a.count >= maxRunning || s.running >= maxRunningAll && a.count >= maxShare {
		return nil, nil, status.Errorf(codes.ResourceExhausted, "%d calls of container %s are being handled, some of which seem to hang", a.count, a.container.ID)
	}
	if s.alternates(id) {
		acting.Alternate()
	}
	s.running++
	a.count++
	a.running.Add(1)
	return a, func() {
		s.mu.Lock()
		s.running--
		a.count--
		s.mu.Unlock()
		a.running.Done()
	}, nil
}

// alternates reports whether the call before was another session's. The server is locked.
func (s *server) alternates(id uint64) bool {
	latest := s.latest
	s.latest = id
	return latest != 0 && latest != id
}

func (s *server) Handle(stream wire.Plugin_HandleServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	n := first.GetNotification()
	if n == nil {
		return status.Error(codes.InvalidArgument, "the first message is not a notification")
	}
	fds, err := s.brought.take(stream.Context(), n.GetCaptured())
	if err != nil {
		return err
	}
	t := transport{asker: streamAsker{stream, &s.brought}, descriptors: fds}
	response, err := s.answer(withDeadline(stream.Context(), n), n, t)
	if err != nil {
		return streamError(err)
	}
	defer response.close()
	return s.send(stream, response)
}

// streamError is the error of a call that failed. What is a status already stays it.
func streamError(err error) error {
	if errors.Is(err, ErrGone) {
		return status.Error(codes.Canceled, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}

// transport is how a notification arrived.
type transport struct {
	asker
	descriptors []int         // of what was captured
	thread      acting.Thread // that handles it; nil: any
}

// answer lets the handler handle the notification.
func (s *server) answer(ctx context.Context, n *wire.Notification, t transport) (Response, error) {
	a, leave, err := s.enter(n.GetSession())
	if err != nil {
		linux.CloseAll(t.descriptors...)
		return Response{}, err
	}
	defer leave()
	end, _ := ctx.Deadline()
	req, err := s.request(t, a, n, end)
	if err != nil {
		return Response{}, err
	}
	defer req.close()
	pause.At(pause.Handle)
	var response Response
	err = recovered(func() (err error) {
		response, err = handle(ctx, a.session, req)
		return err
	})
	if err != nil {
		response.close()
		return Response{}, gone(err)
	}
	return response, nil
}

// send sends the response, and before it the descriptor that it adds.
func (s *server) send(stream wire.Plugin_HandleServer, response Response) error {
	answer := &wire.Response{}
	err := response.put(answer)
	if added := answer.GetAddFd(); err == nil && added != nil {
		added.Descriptors, err = s.added.send(stream.Context(), response.file)
	}
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	return stream.Send(&wire.PluginMessage{Message: &wire.PluginMessage_Response{Response: answer}})
}

func (r Response) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// request builds the Request of a notification. The broker is trusted, but a disagreement on the manifest must not pass
// for empty memory.
func (s *server) request(t transport, a *attached, n *wire.Notification, end time.Time) (*Request, error) {
	sc := s.syscalls[n.GetSyscall()]
	if sc == nil || len(n.GetReads()) != len(sc.GetReads()) || len(n.GetArgs()) != 6 {
		linux.CloseAll(t.descriptors...)
		return nil, status.Errorf(codes.InvalidArgument, "notification of %q does not fit the manifest", n.GetSyscall())
	}
	req := &Request{
		ID: n.GetId(), Syscall: sc.GetName(), Arch: Arch(n.GetArch()), TID: int(n.GetTid()),
		Args: [6]uint64(n.GetArgs()), Container: &a.container, broker: &source{asker: t.asker},
		Again: n.GetAgain(), repeat: Repeat(sc.GetRepeat()),
	}
	if n.GetReceivedNs() != 0 {
		req.Received = time.Unix(0, int64(n.GetReceivedNs()))
	}
	made, err := acting.NewTarget(acting.Call{
		TID: req.TID, Source: req.broker, Captured: lane.Captured(n.GetCaptured()), Descriptors: t.descriptors, Thread: t.thread, End: end,
	})
	if err != nil {
		return nil, err
	}
	req.target = made.(*target.Target)
	for i, declared := range sc.GetReads() {
		got := n.GetReads()[i]
		req.reads = append(req.reads, snapshot{int(declared.GetArg()), got.GetData(), syscall.Errno(got.GetErrno())})
	}
	return req, nil
}

// recovered runs fn; a panic in it becomes an error with the stack, and fails this one request.
func recovered(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			slog.Error("panic in the handler", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return fn()
}
