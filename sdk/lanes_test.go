package sdk

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// laneBroker is the broker's side of a plugin's lanes.
type laneBroker struct {
	control *lane.End
}

// openLanes has the handler served over lanes, with session 1 attached.
func openLanes(t *testing.T, h *trial) *laneBroker {
	t.Helper()
	ours, theirs, err := lane.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(wire.LanesEnv, strconv.Itoa(theirs))
	server := serveTrial(t, h)
	answer, err := server.OpenLanes(t.Context(), &wire.OpenLanesRequest{})
	if err != nil || !answer.GetAccepted() {
		t.Fatalf("%v, %v", answer, err)
	}
	if err := server.receiveLanes(); err != nil {
		t.Fatal(err)
	}
	b := &laneBroker{lane.New(ours)}
	t.Cleanup(b.control.Close)
	return b
}

// open makes a lane with this number.
func (b *laneBroker) open(t *testing.T, number uint64) *lane.End {
	t.Helper()
	ours, theirs, err := lane.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(theirs)
	end := lane.New(ours)
	t.Cleanup(end.Close)
	message := &wire.LaneControl{Control: &wire.LaneControl_Open{Open: &wire.OpenLane{Number: number}}}
	if err := b.control.Send(message, theirs); err != nil {
		t.Fatal(err)
	}
	return end
}

func sendNotification(t *testing.T, end *lane.End, n *wire.Notification, fds ...int) {
	t.Helper()
	if err := end.Send(&wire.BrokerMessage{Message: &wire.BrokerMessage_Notification{Notification: n}}, fds...); err != nil {
		t.Fatal(err)
	}
}

// receive gives the plugin's message and descriptors.
func receive(t *testing.T, end *lane.End) (*wire.PluginMessage, []int) {
	t.Helper()
	message := &wire.PluginMessage{}
	fds, err := end.Receive(message)
	if err != nil {
		t.Fatal(err)
	}
	return message, fds
}

func TestLaneAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(context.Context, *Request) (Response, error)
		value  int64
		gone   bool
		text   string // of the failure
	}{
		"value":   {func(context.Context, *Request) (Response, error) { return Return(7), nil }, 7, false, ""},
		"error":   {func(context.Context, *Request) (Response, error) { return Response{}, errors.New("ouch") }, 0, false, "ouch"},
		"gone":    {func(context.Context, *Request) (Response, error) { return Response{}, ErrGone }, 0, true, ""},
		"panic":   {func(context.Context, *Request) (Response, error) { panic("ouch") }, 0, false, "panic: ouch"},
		"nothing": {func(context.Context, *Request) (Response, error) { return Response{}, nil }, 0, false, "invalid response"},
		"closed file": {func(context.Context, *Request) (Response, error) { return AddFD(closedFile(t), true), nil },
			0, false, "descriptor"},
		"caller's own pid": {func(_ context.Context, r *Request) (Response, error) { return Return(int64(r.TID)), nil }, 1234, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			end := openLanes(t, &trial{handle: test.handle}).open(t, 1)
			for range 3 { // the lane goes on
				n := notification()
				n.Tid = 1234
				sendNotification(t, end, n)
				message, fds := receive(t, end)
				failure := message.GetFailure()
				if len(fds) != 0 || message.GetResponse().GetValue() != test.value || failure.GetGone() != test.gone ||
					!strings.Contains(failure.GetText(), test.text) {
					t.Errorf("got %v, descriptors %d", message, fds)
				}
				if (failure == nil) != (test.text == "" && !test.gone) {
					t.Errorf("failure %v", failure)
				}
			}
		})
	}
}

func closedFile(t *testing.T) *os.File {
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Error(err)
		return nil
	}
	file.Close()
	return file
}

func TestLaneCarriesDescriptor(t *testing.T) {
	opened := make(chan *os.File, 1)
	end := openLanes(t, &trial{handle: func(context.Context, *Request) (Response, error) {
		file, err := os.Open("/dev/null")
		opened <- file
		return AddFD(file, true), err
	}}).open(t, 1)
	sendNotification(t, end, notification())
	message, fds := receive(t, end)
	if message.GetResponse().GetAddFd() == nil || len(fds) != 1 {
		t.Fatalf("got %v, descriptors %d", message, fds)
	}
	unix.Close(fds[0])
	// The next answer comes after the plugin has closed its own.
	sendNotification(t, end, &wire.Notification{Session: 2, Args: make([]uint64, 6)})
	receive(t, end)
	if _, err := (<-opened).Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the plugin's file: %v", err)
	}
}

func TestLaneAsks(t *testing.T) {
	end := openLanes(t, &trial{handle: func(ctx context.Context, r *Request) (Response, error) {
		if err := r.CheckValid(ctx); err != nil {
			return Response{}, err
		}
		data, errno, err := r.Read(ctx, 4096, 3)
		return Return(int64(len(data)) + int64(errno)), err
	}}).open(t, 1)
	sendNotification(t, end, notification())
	if message, _ := receive(t, end); message.GetCheckValid() == nil {
		t.Fatalf("got %v", message)
	}
	end.Send(&wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: &wire.Validity{Valid: true}}})
	if message, _ := receive(t, end); message.GetReadMemory().GetLength() != 3 {
		t.Fatalf("got %v", message)
	}
	end.Send(&wire.BrokerMessage{Message: &wire.BrokerMessage_Memory{Memory: &wire.Memory{Data: []byte("abc")}}})
	if message, _ := receive(t, end); message.GetResponse().GetValue() != 3 {
		t.Errorf("got %v", message)
	}
}

func TestLaneGivesTarget(t *testing.T) {
	end := openLanes(t, &trial{handle: func(ctx context.Context, r *Request) (Response, error) {
		caller, err := r.Target(ctx)
		if err != nil {
			return Response{}, err
		}
		return Return(int64(caller.TID())), nil
	}}).open(t, 1)
	n := notification()
	n.Tid = int32(os.Getpid())
	sendNotification(t, end, n)
	if message, _ := receive(t, end); message.GetResponse().GetValue() != int64(os.Getpid()) {
		t.Errorf("got %v", message)
	}
}

func TestLaneCancels(t *testing.T) {
	handling, ended := make(chan struct{}), make(chan struct{})
	b := openLanes(t, &trial{handle: func(ctx context.Context, _ *Request) (Response, error) {
		close(handling)
		<-ctx.Done()
		close(ended)
		return Response{}, ctx.Err()
	}})
	end := b.open(t, 5)
	sendNotification(t, end, notification())
	<-handling
	for _, number := range []uint64{4, 5, 5} { // another's, its own, and again
		if err := b.control.Send(&wire.LaneControl{Control: &wire.LaneControl_Cancel{Cancel: number}}); err != nil {
			t.Fatal(err)
		}
	}
	end.Close()
	<-ended
}

// What a broker must not send ends the lane, and no other.
func TestLaneRefuses(t *testing.T) {
	stdin := int(os.Stdin.Fd())
	for name, send := range map[string]func(t *testing.T, end *lane.End){
		"no notification": func(t *testing.T, end *lane.End) { end.Send(&wire.BrokerMessage{}, stdin) },
		"a question's answer": func(t *testing.T, end *lane.End) {
			end.Send(&wire.BrokerMessage{Message: &wire.BrokerMessage_Captured{Captured: &wire.Captured{}}}, stdin)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := openLanes(t, &trial{handle: func(context.Context, *Request) (Response, error) { return Return(1), nil }})
			bad, good := b.open(t, 1), b.open(t, 2)
			send(t, bad)
			if _, err := bad.Receive(&wire.PluginMessage{}); !errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
			sendNotification(t, good, notification())
			if message, _ := receive(t, good); message.GetResponse().GetValue() != 1 {
				t.Errorf("got %v", message)
			}
		})
	}
}

func TestNoLanes(t *testing.T) {
	t.Setenv(wire.LanesEnv, "")
	answer, err := serveTrial(t, &trial{}).OpenLanes(t.Context(), &wire.OpenLanesRequest{})
	if err != nil || answer.GetAccepted() {
		t.Errorf("%v, %v", answer, err)
	}
}
