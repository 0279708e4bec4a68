package lane

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// quietCaller is a caller that waits for its answer until it is gone.
type quietCaller struct {
	gone bool
}

func (c *quietCaller) Valid() bool { return !c.gone }
func (c *quietCaller) ReadMemory(question *wire.ReadMemory) *wire.Memory {
	return &wire.Memory{Data: make([]byte, question.GetLength())}
}
func (c *quietCaller) Keep(*wire.Keep) *wire.Kept { return &wire.Kept{} }
func (c *quietCaller) Capture(question *wire.Capture) *capture.Set {
	set := &capture.Set{}
	Capture(set, os.Getpid(), question)
	return set
}

// laneTo makes lanes whose plugin is the function, which gets the notification and the plugin's end.
func laneTo(t *testing.T, plugin func(n *wire.Notification, end *End)) *Pool {
	t.Helper()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	ls := &Pool{}
	if err := ls.Control(New(ours)); err != nil {
		t.Fatal(err)
	}
	ls.Accept()
	control := New(theirs)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			var message wire.LaneControl
			fds, err := control.Receive(&message)
			if err != nil {
				return
			}
			if message.GetOpen() != nil {
				end := New(fds[0])
				linux.GoOnThread(func() { playPlugin(t, end, plugin) }) // as the SDK serves a lane
			}
		}
	}()
	t.Cleanup(func() {
		ls.Close()
		<-served
		control.Close()
	})
	return ls
}

func playPlugin(t *testing.T, end *End, plugin func(n *wire.Notification, end *End)) {
	defer end.Close()
	for {
		var message wire.BrokerMessage
		fds, err := end.Receive(&message)
		if err != nil || message.GetNotification() == nil {
			return
		}
		plugin(message.GetNotification(), end)
		if len(fds) > 0 {
			t.Error("a notification came with a descriptor")
			linux.CloseAll(fds...)
		}
	}
}

// response is a message with a value.
func response(id uint64, value int64) *wire.PluginMessage {
	r := &wire.Response{Kind: &wire.Response_Value{Value: value}}
	return &wire.PluginMessage{Id: id, Message: &wire.PluginMessage_Response{Response: r}}
}

func addFD(id uint64) *wire.PluginMessage {
	r := &wire.Response{Kind: &wire.Response_AddFd{AddFd: &wire.AddFD{}}}
	return &wire.PluginMessage{Id: id, Message: &wire.PluginMessage_Response{Response: r}}
}

func dialogue(id uint64) *Dialogue {
	d := &Dialogue{}
	d.Notification.Id = id
	return d
}

// call carries one notification over a lane.
func call(
	t *testing.T, ls *Pool, ctx context.Context, id uint64, caller Caller, timeout time.Duration,
) (*wire.Response, *Descriptor, error) {
	t.Helper()
	l := ls.Take(0)
	if l == nil {
		t.Fatal("no lane")
	}
	return l.Handle(ctx, dialogue(id), caller, time.Now().Add(timeout))
}

func TestLaneGoesOn(t *testing.T) {
	ls := laneTo(t, func(n *wire.Notification, end *End) { end.Send(response(n.GetId(), 7)) })
	for id := range uint64(10) {
		got, _, err := call(t, ls, t.Context(), id, &quietCaller{}, time.Minute)
		if err != nil || got.GetValue() != 7 {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if ls.count != 1 || len(ls.idle) != 1 {
		t.Errorf("%d lanes, %d of them idle", ls.count, len(ls.idle))
	}
}

// A plugin that does not keep to the rules loses the lane, and the next call has another.
func TestLaneOfBadPlugin(t *testing.T) {
	stdin := int(os.Stdin.Fd())
	for name, test := range map[string]struct {
		plugin func(n *wire.Notification, end *End)
		want   string
	}{
		"another's id":         {func(n *wire.Notification, end *End) { end.Send(response(n.GetId()+1, 1)) }, "another notification"},
		"closes":               {func(_ *wire.Notification, end *End) { end.Shutdown() }, "died, or has closed its lane"},
		"garbage":              {func(_ *wire.Notification, end *End) { end.Send(&wire.Memory{Data: []byte{0xff}}) }, ""},
		"neither end nor ask":  {func(n *wire.Notification, end *End) { end.Send(&wire.PluginMessage{Id: n.GetId()}) }, "unknown message"},
		"AddFD without it":     {func(n *wire.Notification, end *End) { end.Send(addFD(n.GetId())) }, "descriptor"},
		"descriptor with none": {func(n *wire.Notification, end *End) { end.Send(response(n.GetId(), 1), stdin) }, "descriptor"},
	} {
		t.Run(name, func(t *testing.T) {
			var good atomic.Bool
			ls := laneTo(t, func(n *wire.Notification, end *End) {
				if good.Load() {
					end.Send(response(n.GetId(), 7))
					return
				}
				test.plugin(n, end)
			})
			_, added, err := call(t, ls, t.Context(), 5, &quietCaller{}, time.Minute)
			if err == nil || !strings.Contains(err.Error(), test.want) || added != nil {
				t.Errorf("got %v", err)
			}
			if ls.count != 0 {
				t.Errorf("%d lanes", ls.count)
			}
			good.Store(true)
			if got, _, err := call(t, ls, t.Context(), 6, &quietCaller{}, time.Minute); err != nil || got.GetValue() != 7 {
				t.Errorf("the next call: %v, %v", got, err)
			}
		})
	}
}

// Of a plugin that answers twice the second answer reaches no other call.
func TestLaneAnsweredTwice(t *testing.T) {
	ls := laneTo(t, func(n *wire.Notification, end *End) {
		end.Send(response(n.GetId(), 1))
		end.Send(response(n.GetId(), 2))
	})
	if got, _, err := call(t, ls, t.Context(), 1, &quietCaller{}, time.Minute); err != nil || got.GetValue() != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, _, err := call(t, ls, t.Context(), 2, &quietCaller{}, time.Minute); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the next call: %v", err)
	}
}

func TestLaneGivesUp(t *testing.T) {
	ended, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("the container is gone"))
	for name, test := range map[string]struct {
		ctx     context.Context
		caller  *quietCaller
		timeout time.Duration
		want    string
	}{
		"deadline":  {t.Context(), &quietCaller{}, 0, "deadline"},
		"caller":    {t.Context(), &quietCaller{gone: true}, time.Minute, "the caller is gone"},
		"container": {ended, &quietCaller{}, time.Minute, "the container is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			ls := laneTo(t, func(*wire.Notification, *End) { <-release })
			_, _, err := call(t, ls, test.ctx, 1, test.caller, test.timeout)
			if err == nil || !strings.Contains(err.Error(), test.want) || ls.count != 0 {
				t.Errorf("got %v, %d lanes", err, ls.count)
			}
			close(release)
		})
	}
}

func TestLaneAddsDescriptor(t *testing.T) {
	file, err := os.Open("pool.go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	fd := int(file.Fd())
	ls := laneTo(t, func(n *wire.Notification, end *End) { end.Send(addFD(n.GetId()), fd) })
	_, added, err := call(t, ls, t.Context(), 1, &quietCaller{}, time.Minute)
	if err != nil || added == nil {
		t.Fatalf("got %v, %v", added, err)
	}
	defer added.Close()
	var ours, theirs unix.Stat_t
	if unix.Fstat(fd, &ours) != nil || unix.Fstat(added.FD(), &theirs) != nil || ours.Ino != theirs.Ino {
		t.Error("it is another file")
	}
}

// The thread of a plugin that takes long may run on any processor. The lanes of its processor are not used again.
func TestLaneIsLate(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	cpu := linux.Processor()
	pools := make(chan *Pool, 1)
	ls := laneTo(t, func(n *wire.Notification, end *End) {
		pool := <-pools
		moved := func() bool {
			pool.mu.Lock()
			defer pool.mu.Unlock()
			return len(pool.moved) > 0
		}
		linux.KeepOn(0, cpu)
		for set := (unix.CPUSet{}); set != all || !moved(); { // where there is one processor, that is all
			unix.SchedGetaffinity(0, &set)
		}
		end.Send(response(n.GetId(), 7))
	})
	ls.PID = os.Getpid()
	pools <- ls
	late, busy, idle, other := ls.Take(cpu), ls.Take(cpu), ls.Take(cpu), ls.Take(cpu+1)
	idle.put()
	other.put()
	got, _, err := late.Handle(t.Context(), dialogue(1), &quietCaller{}, time.Now().Add(time.Minute))
	if err != nil || got.GetValue() != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	busy.put()
	if ls.count != 1 || len(ls.idle) != 1 || ls.idle[0] != other {
		t.Errorf("%d lanes, %d of them idle", ls.count, len(ls.idle))
	}
	again := ls.Take(cpu)
	if again.put(); ls.count != 2 || len(ls.idle) != 2 {
		t.Errorf("then %d lanes, %d of them idle", ls.count, len(ls.idle))
	}
}

// Without a plugin that listens there are no lanes: the caller takes gRPC.
func TestNoLanes(t *testing.T) {
	if l := (&Pool{}).Take(0); l != nil {
		t.Error("a plugin that takes none has one")
	}
	ls := laneTo(t, nil)
	ls.control.Shutdown()
	if l := ls.Take(0); l != nil {
		t.Error("one whose socket is closed has one")
	}
}

// A lane stays on its processor, and the ones that are not used any more go.
func TestLanesOfProcessors(t *testing.T) {
	ls := laneTo(t, func(n *wire.Notification, end *End) { end.Send(response(n.GetId(), 7)) })
	first := ls.Take(0)
	first.put()
	if again := ls.Take(0); again != first {
		t.Error("another lane than the one that is idle")
	}
	other := ls.Take(1)
	if other == first || other.cpu != 1 {
		t.Errorf("a lane of processor %d", other.cpu)
	}
	first.put()
	other.put()
	for cpu := range 3 * MaxIdleLanes {
		ls.Take(cpu + 2).put()
	}
	if len(ls.idle) != MaxIdleLanes || ls.count != MaxIdleLanes {
		t.Errorf("%d lanes, %d of them idle", ls.count, len(ls.idle))
	}
	if ls.Take(0) == first {
		t.Error("the lane that was not used for longest is still there")
	}
}

// keeper tells the test what it is told.
type keeper struct{ kept, back chan time.Time }

func newKeeper() *keeper { return &keeper{make(chan time.Time, 1), make(chan time.Time, 1)} }

func (k *keeper) Keep(deadline time.Time) (back func()) {
	k.kept <- deadline
	return func() { k.back <- deadline }
}

// A lane whose call is given up counts until the plugin's thread is back, which gets no answer to what it asks.
func TestKeep(t *testing.T) {
	asked, release := make(chan error, 1), make(chan struct{})
	ls := laneTo(t, func(n *wire.Notification, end *End) {
		<-release
		question := &wire.PluginMessage{Id: n.GetId(), Message: &wire.PluginMessage_CheckValid{CheckValid: &wire.CheckValid{}}}
		end.Send(question, int(os.Stdin.Fd()))
		_, err := end.Receive(&wire.BrokerMessage{})
		end.Send(addFD(n.GetId()), int(os.Stdin.Fd()))
		asked <- err
	})
	k, deadline := newKeeper(), time.Now()
	l := ls.Take(0)
	l.Keeper = k
	if _, _, err := l.Handle(t.Context(), dialogue(1), &quietCaller{}, deadline); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if got := <-k.kept; !got.Equal(deadline) || ls.Busy() != 1 {
		t.Errorf("kept beyond %v, %d lanes: want %v, 1", got, ls.Busy(), deadline)
	}
	select {
	case <-k.back:
		t.Error("the thread is back before it is")
	case <-time.After(2 * goneInterval):
	}
	close(release)
	<-k.back
	if err := <-asked; !errors.Is(err, io.EOF) {
		t.Errorf("the plugin's question: %v", err)
	}
	if ls.Busy() != 0 {
		t.Errorf("%d lanes", ls.Busy())
	}
}

// The calls of a plugin that dies are over, also if a thread of it keeps the sockets open, and those that were given
// up.
func TestDeadPluginKeepsSocket(t *testing.T) {
	release := make(chan struct{})
	ls := laneTo(t, func(n *wire.Notification, end *End) { <-release })
	k := newKeeper()
	for _, test := range []struct {
		timeout time.Duration
		want    error
	}{{0, context.DeadlineExceeded}, {time.Minute, ErrDied}} {
		l := ls.Take(0)
		l.Keeper = k
		if test.timeout > 0 {
			time.AfterFunc(goneInterval/2, ls.Close)
		}
		if _, _, err := l.Handle(t.Context(), dialogue(1), &quietCaller{}, time.Now().Add(test.timeout)); !errors.Is(err, test.want) {
			t.Errorf("got %v, want %v", err, test.want)
		}
	}
	<-k.back
	if len(k.kept) != 1 || ls.Busy() != 0 {
		t.Errorf("kept %d, %d lanes", len(k.kept), ls.Busy())
	}
	close(release)
}
