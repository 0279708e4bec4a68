package oci

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testpeer"
	"github.com/intercede/intercede/core/socket"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestSilentPeersHoldNobodyUp(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t)
	ours := message(t, specs.SeccompFdName)
	b.dial(t)
	send(t, b.dial(t), ours[:10])
	send(t, b.dial(t), ours, newListener(t))
	requireOurs(t, b.nextArrival(t))
}

func TestFurtherConnectionsWait(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t, func(l *limits) { l.connections = 2 })
	first, second := b.dial(t), b.dial(t)
	send(t, b.dial(t), message(t, specs.SeccompFdName), newListener(t))
	first.Close()
	if e := b.next(t); !errors.Is(e.err, ErrNothingSent) {
		t.Fatalf("before a place was free: %v", e.err)
	}
	requireOurs(t, b.nextArrival(t))
	second.Close()
	if e := b.next(t); !errors.Is(e.err, ErrNothingSent) {
		t.Fatal(e.err)
	}
}

// One user's silent connections keep neither root nor another user waiting.
func TestSilentUserHoldsNobodyUp(t *testing.T) {
	const connections, attempts = 512, 520
	b := startBroker(t, func(l *limits) { l.connections, l.userSilence = connections, time.Hour })
	testpeer.Connect(t, 1000, "unix", b.path, attempts, "")
	for range attempts - 192 {
		if e := b.next(t); !errors.Is(e.err, socket.ErrTooMany) || e.peer.Uid != 1000 {
			t.Fatalf("user %d: %v", e.peer.Uid, e.err)
		}
	}
	testpeer.Connect(t, 1001, "unix", b.path, 1, "{}\n")
	if e := b.next(t); !errors.Is(e.err, ErrMessage) || e.peer.Uid != 1001 {
		t.Errorf("user %d: %v", e.peer.Uid, e.err)
	}
	send(t, b.dial(t), message(t, specs.SeccompFdName), newListener(t))
	requireOurs(t, b.nextArrival(t))
}

// A user other than root may be silent for less time than root.
func TestSilentUserIsCut(t *testing.T) {
	b := startBroker(t, func(l *limits) { l.userSilence = time.Millisecond })
	silent := b.dial(t)
	testpeer.Connect(t, 1000, "unix", b.path, 1, "")
	if e := b.next(t); !errors.Is(e.err, os.ErrDeadlineExceeded) || e.peer.Uid != 1000 {
		t.Errorf("user %d: %v", e.peer.Uid, e.err)
	}
	send(t, silent, message(t, specs.SeccompFdName), newListener(t))
	requireOurs(t, b.nextArrival(t))
}

func TestServeEndsWithPeersConnected(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t, func(l *limits) { l.connections = 2 })
	b.dial(t)
	half := b.dial(t)
	send(t, half, "{", newListener(t))
	served := b.dial(t)
	send(t, served, message(t, specs.SeccompFdName), newListener(t))
	b.stop(t)
}

func TestSilentPeerIsCutAndReportedWhenServeEnds(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t, func(l *limits) { l.connections = 1 })
	silent := b.dial(t)
	closed := b.dial(t)
	closed.Close()
	send(t, silent, "{")
	b.cancel()
	if err := <-b.ended; err != nil {
		t.Fatal(err)
	}
	b.ended <- nil
	for len(b.events) > 0 {
		if e := <-b.events; !errors.Is(e.err, context.Canceled) {
			t.Errorf("reported %v", e.err)
		}
	}
}

func TestServeMayBeCalledAgain(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t)
	b.cancel()
	must(t, <-b.ended)
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	go func() { b.ended <- b.server.Serve(ctx, nil, func(a Arrival) { b.events <- event{arrival: a} }) }()
	send(t, b.dial(t), message(t, specs.SeccompFdName), newListener(t))
	requireOurs(t, b.nextArrival(t))
}

func TestServeAfterCloseIsAnError(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t)
	must(t, b.server.Close())
	if err := <-b.ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	b.ended <- nil
}

// A broker without free descriptors says so, keeps running, and serves the connection once it has some.
func TestAcceptSurvivesTooManyOpenFiles(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t)
	listener := newListener(t)
	client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(client)

	release := exhaustDescriptors(t)
	err = unix.Connect(client, &unix.SockaddrUnix{Name: b.path})
	e := b.next(t)
	release()
	must(t, err)
	if !errors.Is(e.err, unix.EMFILE) {
		t.Fatalf("reported %v", e.err)
	}
	must(t, unix.Sendmsg(client, []byte(message(t, specs.SeccompFdName)), unix.UnixRights(int(listener.Fd())), nil, 0))
	for e = b.next(t); errors.Is(e.err, unix.EMFILE); e = b.next(t) {
	}
	must(t, e.err)
	closeAtEnd(t, e.arrival.Listener)
	requireOurs(t, e.arrival)
}

// exhaustDescriptors uses up every descriptor below a lowered limit. release undoes both.
func exhaustDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: limit.Max}))
	var held []int
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	return func() {
		for _, fd := range held {
			unix.Close(fd)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}
}
