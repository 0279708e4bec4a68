package sdktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// connect serves the handler over gRPC, in memory, until the end of the test.
func connect(t testing.TB, h sdk.Handler) (wire.PluginClient, *wire.Manifest) {
	t.Helper()
	service, err := sdk.NewServer(h)
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	wire.RegisterPluginServer(server, service)
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	connection, err := grpc.NewClient("passthrough:///plugin",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("sdktest: %v", err)
	}
	t.Cleanup(func() { connection.Close() })
	client := wire.NewPluginClient(connection)
	manifest, err := client.Manifest(t.Context(), &wire.ManifestRequest{})
	if err != nil {
		t.Fatalf("sdktest: manifest: %v", err)
	}
	return client, manifest
}

// attach attaches a session and detaches it at the end of the test. The error is the handler's refusal.
func attach(t testing.TB, client wire.PluginClient, id uint64, container sdk.Container, settings string) error {
	t.Helper()
	request := &wire.AttachRequest{Session: id, Container: containerToWire(container), SettingsJson: settings}
	reply, err := client.Attach(t.Context(), request)
	if err != nil {
		t.Fatalf("sdktest: attach: %v", err)
	}
	if reply.GetRefused() != "" {
		return errors.New(reply.GetRefused())
	}
	t.Cleanup(func() {
		if _, err := client.Detach(context.Background(), &wire.DetachRequest{Session: id}); err != nil {
			t.Errorf("sdktest: detach: %v", err)
		}
	})
	return nil
}

func containerToWire(c sdk.Container) *wire.Container {
	return &wire.Container{
		Id: c.ID, Runtime: c.Runtime, Annotations: c.Annotations, InitPid: int32(c.InitPID),
		UserNamespaceDev: c.UserNamespace.Dev, UserNamespaceIno: c.UserNamespace.Ino,
		UidMap: mappingsToWire(c.UIDMap), GidMap: mappingsToWire(c.GIDMap), Cgroups: c.Cgroups,
	}
}

func mappingsToWire(mappings []sdk.IDMapping) []*wire.IDMapping {
	var list []*wire.IDMapping
	for _, m := range mappings {
		list = append(list, &wire.IDMapping{Inside: m.Inside, Outside: m.Outside, Length: m.Length})
	}
	return list
}

// caller is who made a call: a fake, or a thread in a container.
type caller interface {
	readMemory(address uint64, n int) ([]byte, syscall.Errno)
	readString(address uint64, max int) ([]byte, syscall.Errno)
	valid() bool
	// answer performs the response while the plugin keeps its descriptors open.
	answer(*wire.Response) Outcome
}

// handle has the plugin handle one notification, answering its questions on the way.
func handle(ctx context.Context, client wire.PluginClient, n *wire.Notification, c caller) Outcome {
	ctx, closeStream := context.WithCancel(ctx)
	defer closeStream()
	stream, err := client.Handle(ctx)
	if err != nil {
		return failed(err)
	}
	next := &wire.BrokerMessage{Message: &wire.BrokerMessage_Notification{Notification: n}}
	for {
		// An error of Send is only io.EOF; Recv has the reason.
		stream.Send(next)
		message, err := stream.Recv()
		if err != nil {
			return failed(err)
		}
		switch m := message.GetMessage().(type) {
		case *wire.PluginMessage_ReadMemory:
			next = &wire.BrokerMessage{Message: &wire.BrokerMessage_Memory{Memory: read(c, m.ReadMemory)}}
		case *wire.PluginMessage_CheckValid:
			next = &wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: &wire.Validity{Valid: c.valid()}}}
		case *wire.PluginMessage_Response:
			return c.answer(m.Response)
		default:
			return Outcome{Kind: Failure, Err: fmt.Errorf("the plugin sent an unknown message %T", m)}
		}
	}
}

// failed tells a plugin that failed from one that found the caller gone.
func failed(err error) Outcome {
	if status.Code(err) == codes.Canceled {
		return Outcome{Kind: Gone, Err: err}
	}
	return Outcome{Kind: Failure, Err: err}
}

func read(c caller, question *wire.ReadMemory) *wire.Memory {
	if question.GetLength() > wire.MaxRead {
		return memory(nil, syscall.E2BIG)
	}
	if question.GetString_() {
		return memory(c.readString(question.GetAddress(), int(question.GetLength())))
	}
	return memory(c.readMemory(question.GetAddress(), int(question.GetLength())))
}

func memory(data []byte, fault syscall.Errno) *wire.Memory {
	if fault != 0 {
		return &wire.Memory{Errno: int32(fault)}
	}
	return &wire.Memory{Data: data}
}

// outcomeOf is the response as an Outcome; a descriptor is left to the caller of outcomeOf.
func outcomeOf(response *wire.Response) Outcome {
	o := Outcome{}
	for _, w := range response.GetWrites() {
		o.Writes = append(o.Writes, Write{w.GetAddress(), w.GetData()})
	}
	switch kind := response.GetKind().(type) {
	case *wire.Response_Value:
		o.Kind, o.Value = Value, kind.Value
	case *wire.Response_Errno:
		o.Kind, o.Errno = Errno, syscall.Errno(kind.Errno)
	case *wire.Response_Continue:
		o.Kind = Continue
	case *wire.Response_Next:
		o.Kind = Next
	case *wire.Response_AddFd:
		o.Kind, o.CloseOnExec = AddFD, kind.AddFd.GetCloseOnExec()
	default:
		o.Kind, o.Err = Failure, errors.New("the response has no kind")
	}
	return o
}
