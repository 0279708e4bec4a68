package sdk

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// trial is a handler made of functions; its own session.
type trial struct {
	attach func() (Session, error)
	handle func(context.Context, *Request) (Response, error)
	close  func() error
}

func (h *trial) Manifest() Manifest {
	return Manifest{Name: "trial", Version: "1", OnFailure: FailContinue(),
		Syscalls: []Syscall{{Name: "getppid"}, {Name: "chdir", Reads: []Read{ReadPath(0)}}}}
}

func (h *trial) Attach(context.Context, Container, Settings) (Session, error) {
	if h.attach != nil {
		return h.attach()
	}
	return h, nil
}

func (h *trial) Handle(ctx context.Context, req *Request) (Response, error) {
	return h.handle(ctx, req)
}

func (h *trial) Close() error {
	if h.close != nil {
		return h.close()
	}
	return nil
}

// serveTrial makes a server with session 1 attached.
func serveTrial(t *testing.T, h *trial) *server {
	t.Helper()
	s, err := newServer(h)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := s.Attach(t.Context(), &wire.AttachRequest{Session: 1, SettingsJson: "{}"})
	if err != nil || reply.GetRefused() != "" {
		t.Fatalf("attach: %v, %v", reply, err)
	}
	return s
}

// stream is the broker's end of one Handle.
type stream struct {
	grpc.ServerStream
	ctx      context.Context
	incoming []*wire.BrokerMessage
	sent     []*wire.PluginMessage
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Recv() (*wire.BrokerMessage, error) {
	if len(s.incoming) == 0 {
		return nil, io.EOF
	}
	next := s.incoming[0]
	s.incoming = s.incoming[1:]
	return next, nil
}

func (s *stream) Send(m *wire.PluginMessage) error {
	s.sent = append(s.sent, m)
	return nil
}

// notification is a call of getppid by session 1.
func notification() *wire.Notification {
	return &wire.Notification{Id: 7, Session: 1, Syscall: "getppid", Arch: uint32(ArchX86_64), Args: make([]uint64, 6)}
}

func newStream(t *testing.T, n *wire.Notification, answers ...*wire.BrokerMessage) *stream {
	first := &wire.BrokerMessage{Message: &wire.BrokerMessage_Notification{Notification: n}}
	return &stream{ctx: t.Context(), incoming: append([]*wire.BrokerMessage{first}, answers...)}
}

func TestNewServerRefusesManifest(t *testing.T) {
	if _, err := newServer(&nameless{}); err == nil || !strings.Contains(err.Error(), "plugin name") {
		t.Errorf("got %v", err)
	}
}

type nameless struct{ trial }

func (*nameless) Manifest() Manifest { return Manifest{} }

func TestServerAttach(t *testing.T) {
	for name, test := range map[string]struct {
		attach  func() (Session, error)
		refused string
	}{
		"error":      {func() (Session, error) { return nil, errors.New("no such thing") }, "no such thing"},
		"panic":      {func() (Session, error) { panic("ouch") }, "panic: ouch"},
		"no session": {func() (Session, error) { return nil, nil }, "the handler returned no session"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newServer(&trial{attach: test.attach})
			if err != nil {
				t.Fatal(err)
			}
			reply, err := s.Attach(t.Context(), &wire.AttachRequest{Session: 1})
			if reply.GetRefused() != test.refused || err != nil {
				t.Errorf("got %v, %v", reply, err)
			}
			if err := s.Handle(newStream(t, notification())); status.Code(err) != codes.NotFound {
				t.Errorf("a call of a refused session: %v", err)
			}
		})
	}
}

func TestServerAttachTwice(t *testing.T) {
	closed := 0
	s := serveTrial(t, &trial{close: func() error { closed++; return nil }})
	if _, err := s.Attach(t.Context(), &wire.AttachRequest{Session: 1}); status.Code(err) != codes.AlreadyExists || closed != 1 {
		t.Errorf("got %v; %d sessions closed", err, closed)
	}
}

func TestServerDetach(t *testing.T) {
	for name, end := range map[string]func() error{
		"nothing": func() error { return nil },
		"error":   func() error { return errors.New("no luck") },
		"panic":   func() error { panic("ouch") },
	} {
		t.Run(name, func(t *testing.T) {
			closed := 0
			s := serveTrial(t, &trial{close: func() error { closed++; return end() }})
			for range 2 {
				if _, err := s.Detach(t.Context(), &wire.DetachRequest{Session: 1}); err != nil {
					t.Error(err)
				}
			}
			if closed != 1 {
				t.Errorf("closed %d times", closed)
			}
		})
	}
}

// TestServerDetachWaits detaches while a call is in the session.
func TestServerDetachWaits(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	left := false
	s := serveTrial(t, &trial{
		handle: func(context.Context, *Request) (Response, error) {
			close(entered)
			<-release
			left = true
			return Return(0), nil
		},
		close: func() error {
			if !left {
				t.Error("closed while a call was in it")
			}
			return nil
		},
	})
	go s.Handle(newStream(t, notification()))
	<-entered
	go close(release)
	if _, err := s.Detach(t.Context(), &wire.DetachRequest{Session: 1}); err != nil {
		t.Error(err)
	}
}

func TestServerHandle(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(context.Context, *Request) (Response, error)
		code   codes.Code
		want   string
	}{
		"response": {func(context.Context, *Request) (Response, error) { return Return(3), nil }, codes.OK, ""},
		"error":    {func(context.Context, *Request) (Response, error) { return Response{}, errors.New("no luck") }, codes.Internal, "no luck"},
		"gone": {func(context.Context, *Request) (Response, error) { return Response{}, ErrGone }, codes.Canceled,
			ErrGone.Error()},
		"zero":  {func(context.Context, *Request) (Response, error) { return Response{}, nil }, codes.Internal, "invalid response"},
		"panic": {func(context.Context, *Request) (Response, error) { panic("ouch") }, codes.Internal, "panic: ouch"},
		"undeclared": {func(_ context.Context, req *Request) (Response, error) { req.String(0); return Continue(), nil }, codes.Internal,
			"declares no read of argument 0"},
	} {
		t.Run(name, func(t *testing.T) {
			stream := newStream(t, notification())
			err := serveTrial(t, &trial{handle: test.handle}).Handle(stream)
			if status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.want) {
				t.Errorf("got %v", err)
			}
			if (len(stream.sent) == 1) != (test.code == codes.OK) {
				t.Errorf("sent %v", stream.sent)
			}
		})
	}
}

func TestServerAsksBroker(t *testing.T) {
	stream := newStream(t, notification(),
		&wire.BrokerMessage{Message: &wire.BrokerMessage_Memory{Memory: &wire.Memory{Data: []byte("text")}}},
		&wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: &wire.Validity{Valid: true}}},
		&wire.BrokerMessage{Message: &wire.BrokerMessage_Memory{Memory: &wire.Memory{}}},
		&wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: &wire.Validity{}}})
	s := serveTrial(t, &trial{handle: func(ctx context.Context, req *Request) (Response, error) {
		if text, fault, err := req.ReadString(ctx, 0x1000, 9); text != "text" || fault != 0 || err != nil {
			t.Errorf("read %q, %v, %v", text, fault, err)
		}
		if err := req.CheckValid(ctx); err != nil {
			t.Errorf("valid: %v", err)
		}
		if err := req.CheckValid(ctx); err == nil {
			t.Error("memory passes for validity")
		}
		if _, _, err := req.Read(ctx, 0, 1); err == nil {
			t.Error("validity passes for memory")
		}
		_, _, err := req.Read(ctx, 0, 1)
		return Response{}, err
	}})
	if err := s.Handle(stream); status.Code(err) != codes.Internal {
		t.Errorf("the stream's end: %v", err)
	}
	if q := stream.sent[0].GetReadMemory(); q.GetAddress() != 0x1000 || q.GetLength() != 9 || !q.GetString_() {
		t.Errorf("asked %v", q)
	}
}

func TestServerRefusesNotification(t *testing.T) {
	s := serveTrial(t, &trial{handle: func(context.Context, *Request) (Response, error) {
		t.Error("it was handled")
		return Continue(), nil
	}})
	for name, test := range map[string]struct {
		change func(*wire.Notification)
		want   codes.Code
	}{
		"session":       {func(n *wire.Notification) { n.Session = 2 }, codes.NotFound},
		"syscall":       {func(n *wire.Notification) { n.Syscall = "getpid" }, codes.InvalidArgument},
		"too few args":  {func(n *wire.Notification) { n.Args = n.Args[:5] }, codes.InvalidArgument},
		"too many args": {func(n *wire.Notification) { n.Args = make([]uint64, 7) }, codes.InvalidArgument},
		"reads":         {func(n *wire.Notification) { n.Syscall = "chdir" }, codes.InvalidArgument},
		"more reads":    {func(n *wire.Notification) { n.Reads = []*wire.Memory{{}} }, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			n := notification()
			test.change(n)
			if err := s.Handle(newStream(t, n)); status.Code(err) != test.want {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("no notification", func(t *testing.T) {
		if err := s.Handle(&stream{ctx: t.Context(), incoming: []*wire.BrokerMessage{{}}}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("got %v", err)
		}
	})
}

// TestServerClosesFile has the handler give a descriptor in every outcome: the broker has got it by the answer, under
// the answer's number, and it is closed here.
func TestServerClosesFile(t *testing.T) {
	for name, err := range map[string]error{"response": nil, "error": errors.New("no luck"), "gone": ErrGone} {
		t.Run(name, func(t *testing.T) {
			var file *os.File
			s := serveTrial(t, &trial{handle: func(context.Context, *Request) (Response, error) {
				var openErr error
				if file, openErr = os.Open(os.DevNull); openErr != nil {
					t.Error(openErr)
				}
				return AddFD(file, true), err
			}})
			ours, theirs, pairErr := lane.Pair()
			if pairErr != nil {
				t.Fatal(pairErr)
			}
			broker, control := lane.New(ours), lane.New(theirs)
			defer broker.Close()
			defer control.Close()
			s.added.use(control)
			defer s.added.close()
			stream := newStream(t, notification())
			s.Handle(stream)
			if err := file.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("left open: %v", err)
			}
			if err != nil {
				return
			}
			var message wire.LaneControl
			fds, receiveErr := broker.Receive(&message)
			if receiveErr != nil || len(fds) != 1 {
				t.Fatalf("%d descriptors, %v", len(fds), receiveErr)
			}
			unix.Close(fds[0])
			if got, want := message.GetDescriptors(), stream.sent[0].GetResponse().GetAddFd().GetDescriptors(); got != want || want == 0 {
				t.Errorf("it came under %d, and the answer has %d", got, want)
			}
		})
	}
}

func TestServerManifest(t *testing.T) {
	s := serveTrial(t, &trial{})
	m, err := s.Manifest(t.Context(), &wire.ManifestRequest{})
	if err != nil || m.GetName() != "trial" || len(m.GetSyscalls()) != 2 || m.GetSyscalls()[1].GetReads()[0].GetString_().GetMax() != PathMax {
		t.Errorf("got %v, %v", m, err)
	}
}

func TestSettingsDecode(t *testing.T) {
	var into struct {
		Level int `json:"level"`
	}
	if err := Settings(`{"level": 3}`).Decode(&into); err != nil || into.Level != 3 {
		t.Errorf("got %+v, %v", into, err)
	}
	for name, text := range map[string]string{
		"unknown key": `{"level": 3, "color": 1}`, "wrong type": `{"level": "3"}`, "not JSON": `{`, "nothing": ``,
	} {
		if err := Settings(text).Decode(&into); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestRunningIsBounded has calls that never end: a container has fewer of them where all containers have many.
func TestRunningIsBounded(t *testing.T) {
	s, err := newServer(&trial{})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(id uint64) (calls int) {
		reply, err := s.Attach(t.Context(), &wire.AttachRequest{Session: id, SettingsJson: "{}"})
		if err != nil || reply.GetRefused() != "" {
			t.Fatalf("attach: %v, %v", reply, err)
		}
		for {
			if _, _, err := s.enter(id); err != nil {
				if status.Code(err) != codes.ResourceExhausted {
					t.Fatalf("got %v", err)
				}
				return calls
			}
			calls++
		}
	}
	for id := range uint64(maxRunningAll/maxRunning + 2) {
		want := maxRunning
		if id*maxRunning >= maxRunningAll {
			want = maxShare
		}
		if got := fill(id + 1); got != want {
			t.Errorf("container %d has %d calls, want %d", id+1, got, want)
		}
	}
}

// TestServerAlternates notices calls of another session than the call before.
func TestServerAlternates(t *testing.T) {
	var s server
	for i, call := range []struct {
		session uint64
		want    bool
	}{{7, false}, {7, false}, {8, true}, {8, false}, {7, true}} {
		if s.alternates(call.session) != call.want {
			t.Errorf("call %d, of session %d, is to alternate: %t", i, call.session, call.want)
		}
	}
}
