package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// relayed is a container whose listener the test keeps, and hands on what it receives.
type relayed struct {
	*testcaller.Caller
	listener *os.File
	notify.FD
}

func startRelayed(t *testing.T, files ...*os.File) *relayed {
	t.Helper()
	r := &relayed{Caller: testcaller.Start(t, 0, files...)}
	r.listener = r.Listener(t, unix.SYS_GETPPID)
	t.Cleanup(func() { r.listener.Close() })
	r.FD = notify.FD(r.listener.Fd())
	return r
}

// claim is what LXC's intake says.
func (r *relayed) claim() container.Claim {
	root := uint32(0)
	return container.Claim{Runtime: config.RuntimeLXC, Cookie: "biscuit", PeerUID: &root, PID: r.PID}
}

// receive receives the next notification.
func (r *relayed) receive(t *testing.T) RelayedNotification {
	t.Helper()
	if pending, _, err := r.Poll(int(testcaller.Timeout / time.Millisecond)); err != nil || !pending {
		t.Fatalf("no notification: %v", err)
	}
	n := &notify.Notification{}
	if err := r.Receive(n); err != nil {
		t.Fatal(err)
	}
	return RelayedNotification{Notification: n, Answers: r.FD, End: time.Now().Add(testcaller.Timeout)}
}

// on runs the connection's goroutine.
func on(fn func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	return done
}

// serve hands on one notification over a connection of its own.
func (b *bench) serve(t *testing.T, r *relayed, x RelayedNotification) error {
	t.Helper()
	var handled error
	<-on(func() {
		relay, err := b.Relay(t.Context(), r.claim(), b.NewInbox())
		if err != nil {
			t.Error(err)
			return
		}
		defer relay.Close()
		handled = relay.Handle(x)
	})
	return handled
}

func TestRelay(t *testing.T) {
	b := newBench(t, options{})
	r := startRelayed(t)
	for range 3 {
		result := r.Go(unix.SYS_GETPPID, op(testplugin.Return, 77)...)
		if err := b.serve(t, r, r.receive(t)); err != nil {
			t.Error(err)
		}
		want(t, testcaller.Await(t, result), 77, 0)
	}
	status := b.Status()
	if len(status) != 1 || status[0].Calls != 3 || status[0].Listeners != 0 || status[0].Runtime != "lxc" || status[0].InitPID != r.PID {
		t.Errorf("status %+v: want one container, between its connections", status)
	}
	b.log.await(t, 1, "connection attached", `"container":"pid-`+strconv.Itoa(r.PID))
	r.Kill()
	eventually(t, "the container is gone", func() bool { return len(b.Status()) == 0 })
	if _, err := b.Relay(t.Context(), r.claim(), b.NewInbox()); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a connection of a container that is gone: %v", err)
	}
}

// A connection that its monitor forgot ends with the container.
func TestRelayEndsWithContainer(t *testing.T) {
	b := newBench(t, options{})
	r := startRelayed(t)
	<-on(func() {
		relay, err := b.Relay(t.Context(), r.claim(), b.NewInbox())
		if err != nil {
			t.Error(err)
			return
		}
		if relay.Context().Err() != nil {
			t.Error("it ends at once")
		}
		r.Kill()
		<-relay.Context().Done()
		if len(b.Status()) != 1 {
			t.Error("the container is gone before its connection")
		}
		relay.Close()
		relay.Close()
	})
	eventually(t, "the container is gone", func() bool { return len(b.Status()) == 0 })
}

// The peer's patience counts where it is less than the plugin's deadline.
func TestRelayDeadline(t *testing.T) {
	b := newBench(t, options{plugins: []string{"errno"}})
	r := startRelayed(t)
	attached := r.Go(unix.SYS_GETPPID, op(testplugin.Return, 1)...)
	if err := b.serve(t, r, r.receive(t)); err != nil {
		t.Error(err)
	}
	want(t, testcaller.Await(t, attached), 1, 0)
	for name, left := range map[string]time.Duration{"soon over": shortDeadline, "over": -time.Second} {
		t.Run(name, func(t *testing.T) {
			result := r.Go(unix.SYS_GETPPID, op(testplugin.Hold)...)
			x := r.receive(t)
			x.End = time.Now().Add(left)
			if err := b.serve(t, r, x); err != nil {
				t.Error(err)
			}
			want(t, testcaller.Await(t, result), 0, unix.EIO)
			if left > 0 {
				b.gate.next(t).open()
			} else if len(b.gate.arrived) > 0 {
				t.Error("the plugin was asked all the same")
			}
		})
	}
	if status := b.Status(); len(status) != 1 || status[0].Failures != 2 {
		t.Errorf("status %+v", status)
	}
}

// A thread outside the container is left to the kernel, whatever the peer says of it; one that is gone gets nothing.
func TestRelayOfForeignThread(t *testing.T) {
	b := newBench(t, options{})
	r, other := startRelayed(t), testcaller.Start(t, 0)
	for name, pid := range map[string]int{"of the host": os.Getpid(), "of another container": other.PID} {
		t.Run(name, func(t *testing.T) {
			result := r.Go(unix.SYS_GETPPID, op(testplugin.Return, 77)...)
			x := r.receive(t)
			x.Notification.TID = uint32(pid)
			if err := b.serve(t, r, x); err != nil {
				t.Error(err)
			}
			want(t, testcaller.Await(t, result), 0, 0)
		})
	}
	t.Run("gone", func(t *testing.T) {
		result := r.Go(unix.SYS_GETPPID, op(testplugin.Return, 77)...)
		x := r.receive(t)
		x.Answers = overtaken{r.FD}
		if err := b.serve(t, r, x); err != nil {
			t.Error(err)
		}
		if !r.Valid(x.Notification.ID) {
			t.Error("the call was answered")
		}
		r.SendErrno(x.Notification.ID, unix.EXDEV)
		want(t, testcaller.Await(t, result), 0, syscall.EXDEV)
	})
}

// overtaken is a listener that calls every notification invalid.
type overtaken struct{ notify.FD }

func (overtaken) Valid(uint64) bool { return false }

// The limits of a container hold for its connections.
func TestRelayRate(t *testing.T) {
	b := newBench(t, options{limits: Limits{Rate: 1e-6, Burst: 2}})
	r := startRelayed(t)
	handled := make(chan error, 10)
	done := on(func() {
		relay, err := b.Relay(t.Context(), r.claim(), b.NewInbox())
		if err != nil {
			t.Error(err)
			return
		}
		defer relay.Close()
		for range 3 {
			handled <- relay.Handle(r.receive(t))
		}
	})
	for range 2 {
		want(t, testcaller.Await(t, r.Go(unix.SYS_GETPPID, op(testplugin.Return, 1)...)), 1, 0)
		if err := <-handled; err != nil {
			t.Error(err)
		}
	}
	// The third is answered, and the rate is used up: it does not go on.
	want(t, testcaller.Await(t, r.Go(unix.SYS_GETPPID, op(testplugin.Return, 1)...)), 1, 0)
	if len(handled) > 0 {
		t.Error("the next notification may come at once")
	}
	r.Kill()
	if err := <-handled; !errors.Is(err, ErrOver) {
		t.Errorf("when the container ends: %v", err)
	}
	<-done
}

// Two containers' connections are handled at once, and two of one.
func TestRelaysAreConcurrent(t *testing.T) {
	b := newBench(t, options{})
	first, second := startRelayed(t), startRelayed(t)
	slow := first.Go(unix.SYS_GETPPID, op(testplugin.Hold)...)
	x := first.receive(t)
	slowDone := on(func() { b.serve(t, first, x) })
	held := b.gate.next(t)
	for _, r := range []*relayed{first, second} {
		result := r.Go(unix.SYS_GETPPID, op(testplugin.Return, 5)...)
		if err := b.serve(t, r, r.receive(t)); err != nil {
			t.Error(err)
		}
		want(t, testcaller.Await(t, result), 5, 0)
	}
	held.open()
	<-slowDone
	testcaller.Await(t, slow)
}

func TestRelayOfClosedBroker(t *testing.T) {
	b := newBench(t, options{plugins: []string{"errno"}})
	r := startRelayed(t)
	broker := b.Broker
	slow := r.Go(unix.SYS_GETPPID, op(testplugin.Hold)...)
	x := r.receive(t)
	var handled, after error
	done := on(func() {
		relay, err := broker.Relay(context.Background(), r.claim(), broker.NewInbox())
		if err != nil {
			t.Error(err)
			return
		}
		defer relay.Close()
		handled = relay.Handle(x)
		<-relay.Context().Done()
		after = relay.Handle(x)
	})
	b.gate.next(t)
	b.close()
	want(t, testcaller.Await(t, slow), 0, unix.EIO)
	<-done
	if handled != nil && !errors.Is(handled, ErrOver) || !errors.Is(after, ErrOver) {
		t.Errorf("the connection: %v, %v", handled, after)
	}
	if _, err := broker.Relay(context.Background(), r.claim(), broker.NewInbox()); !errors.Is(err, ErrOver) {
		t.Errorf("another one: %v", err)
	}
}

// A peer that owns nothing of a container speaks for none of its listeners either.
func TestPeerWithoutRight(t *testing.T) {
	b := newBench(t, options{})
	stranger := uint32(12345)
	r := startRelayed(t)
	claim := r.claim()
	claim.PeerUID = &stranger
	if _, err := b.Relay(t.Context(), claim, b.NewInbox()); !errors.Is(err, container.ErrNotOwner) {
		t.Errorf("a connection: %v", err)
	}
	c := b.attach(t)
	id := b.Status()[0].ID
	for name, claim := range map[string]container.Claim{
		"of a process":  {ID: "mine", Runtime: "test", PID: c.PID, PeerUID: &stranger},
		"of an exec id": {ID: id, Runtime: "test", PeerUID: &stranger},
	} {
		t.Run(name, func(t *testing.T) {
			other := testcaller.Start(t, 0)
			if err := b.Attach(t.Context(), other.Listener(t, unix.SYS_GETPPID), claim); !errors.Is(err, container.ErrNotOwner) {
				t.Errorf("a listener: %v", err)
			}
		})
	}
	if status := b.Status(); len(status) != 1 || status[0].Listeners != 1 {
		t.Errorf("status %s", fmt.Sprint(status))
	}
}
