package lane

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// foreign is a plugin in another language, which no SDK keeps from mistakes.
type foreign struct {
	wire.UnimplementedPluginServer
	handle func(stream wire.Plugin_HandleServer) error
}

func (f foreign) Handle(stream wire.Plugin_HandleServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return f.handle(stream)
}

// streamTo serves the plugin, and returns its end of the socket of the lanes too.
func streamTo(t *testing.T, handle func(stream wire.Plugin_HandleServer) error) (Stream, *End) {
	t.Helper()
	listener, server := bufconn.Listen(1<<20), grpc.NewServer()
	wire.RegisterPluginServer(server, foreign{handle: handle})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	connection, err := grpc.NewClient("passthrough:///plugin", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	pool, control := &Pool{}, New(theirs)
	if err := pool.Control(New(ours)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		connection.Close()
		pool.Close()
		control.Close()
	})
	return Stream{Plugin: wire.NewPluginClient(connection), Pool: pool}, control
}

func adds(number uint64) *wire.PluginMessage {
	r := &wire.Response{Kind: &wire.Response_AddFd{AddFd: &wire.AddFD{Descriptors: number}}}
	return &wire.PluginMessage{Message: &wire.PluginMessage_Response{Response: r}}
}

func TestStreamAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answers []*wire.PluginMessage
		want    string // of the error
	}{
		"one":                          {[]*wire.PluginMessage{response(0, 7)}, ""},
		"none":                         {nil, "ended the stream without an answer"},
		"two":                          {[]*wire.PluginMessage{response(0, 7), response(0, 8)}, "something after its response"},
		"a descriptor, and another":    {[]*wire.PluginMessage{adds(1), adds(1)}, "something after its response"},
		"a descriptor of the plugin's": {[]*wire.PluginMessage{adds(5)}, "descriptor 5, which the plugin has not sent"},
	} {
		t.Run(name, func(t *testing.T) {
			stream, _ := streamTo(t, func(stream wire.Plugin_HandleServer) error {
				for _, answer := range test.answers {
					if err := stream.Send(answer); err != nil {
						return err
					}
				}
				return nil
			})
			response, added, err := stream.Handle(t.Context(), &Dialogue{}, &quietCaller{})
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || added != nil {
					t.Errorf("%v, %v, want %q", response, err, test.want)
				}
				return
			}
			if err != nil || response.GetValue() != 7 {
				t.Errorf("got %v, %v", response, err)
			}
		})
	}
}

// TestStreamNeverEnds has a plugin that answers, and goes on.
func TestStreamNeverEnds(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, _ := streamTo(t, func(stream wire.Plugin_HandleServer) error {
		stream.Send(response(0, 7))
		stream.Recv() // the broker has the response, and ends its side of the stream
		cancel()      // as its deadline would
		<-over
		return nil
	})
	if _, _, err := stream.Handle(ctx, &Dialogue{}, &quietCaller{}); err == nil || !strings.Contains(err.Error(), "did not end the stream") {
		t.Errorf("got %v", err)
	}
}

// TestStreamDescriptors sends descriptors in another order than the answers name them, and more than are kept.
func TestStreamDescriptors(t *testing.T) {
	numbers := make(chan uint64, 1)
	stream, control := streamTo(t, func(stream wire.Plugin_HandleServer) error { return stream.Send(adds(<-numbers)) })
	const most = maxSent + 10
	for number := range uint64(most) {
		file, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		file.Truncate(int64(number)) // by which the test knows it
		if err := control.Send(&wire.LaneControl{Control: &wire.LaneControl_Descriptors{Descriptors: number}}, int(file.Fd())); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	// Until the last one is found the others are kept: of them the first are too many.
	for _, number := range []uint64{most - 1, most - 2, most / 2, 0} {
		numbers <- number
		_, added, err := stream.Handle(t.Context(), &Dialogue{}, &quietCaller{})
		if (err == nil) != (number > 0) {
			t.Errorf("descriptor %d: %v", number, err)
		}
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(added.FD(), &st); err != nil || st.Size != int64(number) {
			t.Errorf("descriptor %d is that of %d, %v", number, st.Size, err)
		}
		added.Close()
	}
}
