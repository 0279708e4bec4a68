package lane

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
	protobuf "google.golang.org/protobuf/proto"
)

// pair makes both ends; they are closed with the test.
func pair(t testing.TB) (*End, *End) {
	t.Helper()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	a, b := New(ours), New(theirs)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	return a, b
}

// failure is a message with a text of this length.
func failure(n int) *wire.PluginMessage {
	text := string(bytes.Repeat([]byte("x"), n))
	return &wire.PluginMessage{Message: &wire.PluginMessage_Failure{Failure: &wire.Failure{Text: text}}}
}

func TestSizes(t *testing.T) {
	a, b := pair(t)
	for _, n := range []int{0, 1, maxPacket - 10, maxPacket - 9, maxPacket - 8, maxPacket, 3 * maxPacket, 4 << 20} {
		want, sent := failure(n), make(chan error, 1)
		go func() { sent <- a.Send(want) }()
		var got wire.PluginMessage
		fds, err := b.Receive(&got)
		if err != nil || len(fds) != 0 || !protobuf.Equal(&got, want) {
			t.Errorf("%d bytes: descriptors %d, %v", n, fds, err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}

// An empty message is a message, and not the end.
func TestEmpty(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(&wire.BrokerMessage{}); err != nil {
		t.Fatal(err)
	}
	var got wire.BrokerMessage
	if _, err := b.Receive(&got); err != nil || got.GetMessage() != nil {
		t.Errorf("got %v, %v", &got, err)
	}
}

func TestDescriptor(t *testing.T) {
	a, b := pair(t)
	file, err := os.Open("lane.go")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, n := range []int{1, 2 * maxPacket} {
		sent := make(chan error, 1)
		go func() { sent <- a.Send(failure(n), slices.Repeat([]int{int(file.Fd())}, maxDescriptors)...) }()
		var got wire.PluginMessage
		fds, err := b.Receive(&got)
		if err != nil || len(fds) != maxDescriptors {
			t.Fatalf("descriptors %d, %v", fds, err)
		}
		fd := fds[maxDescriptors-1]
		if err := <-sent; err != nil {
			t.Error(err)
		}
		var ours, theirs unix.Stat_t
		flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if unix.Fstat(int(file.Fd()), &ours) != nil || unix.Fstat(fd, &theirs) != nil || ours.Ino != theirs.Ino || flags&unix.FD_CLOEXEC == 0 {
			t.Error("it is another file, or stays open in children")
		}
		linux.CloseAll(fds...)
	}
	if err := a.Send(failure(1), 1<<20); err == nil {
		t.Error("a descriptor that is not open was sent")
	}
}

// A timeout in the middle of a message loses nothing.
func TestTimeout(t *testing.T) {
	a, b := pair(t)
	if err := b.SetTimeouts(time.Millisecond, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	var got wire.PluginMessage
	if _, err := b.Receive(&got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("nothing sent: %v", err)
	}
	want := failure(100)
	text, err := protobuf.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	message := append(binary.LittleEndian.AppendUint32(nil, uint32(len(text))), text...)
	write(t, a, message[:20])
	if _, err := b.Receive(&got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("half a message: %v", err)
	}
	write(t, a, message[20:])
	if _, err := b.Receive(&got); err != nil || !protobuf.Equal(&got, want) {
		t.Errorf("the rest: %v", err)
	}
	for range 1000 {
		if err = b.Send(want); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrBroken) {
		t.Errorf("a peer that does not receive: %v", err)
	}
}

func write(t *testing.T, e *End, packet []byte, fds ...int) {
	t.Helper()
	if err := e.socket.Send(packet, fds...); err != nil {
		t.Fatal(err)
	}
}

func TestEnd(t *testing.T) {
	for name, end := range map[string]func(a, b *End){
		"closed":            func(a, _ *End) { a.Close() },
		"shut down":         func(a, _ *End) { a.Shutdown() },
		"shut down by self": func(_, b *End) { b.Shutdown() },
		"in the middle":     func(a, _ *End) { write(t, a, []byte{9, 0, 0, 0, 1}); a.Close() },
		"with data unread":  func(a, b *End) { b.Send(failure(1)); a.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			end(a, b)
			var got wire.PluginMessage
			if _, err := b.Receive(&got); !errors.Is(err, io.EOF) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("while it waits", func(t *testing.T) {
		a, b := pair(t)
		received := make(chan error, 1)
		go func() {
			var got wire.PluginMessage
			_, err := b.Receive(&got)
			received <- err
		}()
		a.Shutdown()
		if err := <-received; !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("sending", func(t *testing.T) {
		a, b := pair(t)
		a.Close()
		a.Close()
		a.Shutdown()
		if err := b.Send(failure(1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
	})
}

// What a peer does that does not keep to the format. No descriptor is left open.
func TestBroken(t *testing.T) {
	header := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
	stdin := int(os.Stdin.Fd())
	for name, send := range map[string]func(t *testing.T, a *End){
		"no header":                 func(t *testing.T, a *End) { write(t, a, []byte{1, 2}) },
		"too large":                 func(t *testing.T, a *End) { write(t, a, header(wire.MaxMessage+1)) },
		"more than it says":         func(t *testing.T, a *End) { write(t, a, append(header(1), 1, 2)) },
		"no protobuf":               func(t *testing.T, a *End) { write(t, a, append(header(2), 0xff, 0xff)) },
		"no protobuf, a descriptor": func(t *testing.T, a *End) { write(t, a, append(header(2), 0xff, 0xff), stdin) },
		"too large a packet":        func(t *testing.T, a *End) { write(t, a, make([]byte, maxPacket+1)) },
		"too many descriptors":      func(t *testing.T, a *End) { write(t, a, header(0), make([]int, 100)...) },
		"a late descriptor": func(t *testing.T, a *End) {
			write(t, a, append(header(2), 1))
			write(t, a, []byte{2}, stdin)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			before := descriptors(t)
			send(t, a)
			var got wire.PluginMessage
			if fds, err := b.Receive(&got); !errors.Is(err, ErrBroken) || len(fds) != 0 {
				t.Errorf("descriptors %d, %v", fds, err)
			}
			if after := descriptors(t); after > before {
				t.Errorf("%d descriptors, before %d", after, before)
			}
		})
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// FuzzReceive feeds a lane packets of a peer.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0}, []byte{})
	f.Add([]byte{2, 0, 0, 0, 0x22}, []byte{0})
	f.Add([]byte{4, 0, 0, 0, 0x22, 2, 0x12, 0}, []byte{1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, []byte{1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		if len(first) > 4*maxPacket || len(second) > 4*maxPacket {
			return
		}
		a, b := pair(t)
		if err := b.SetTimeouts(time.Millisecond, time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for _, packet := range [][]byte{first, second} {
			if len(packet) > 0 && unix.Sendmsg(a.socket.FD(), packet, nil, nil, unix.MSG_DONTWAIT) != nil {
				return
			}
		}
		a.Shutdown()
		for {
			var got wire.PluginMessage
			if _, err := b.Receive(&got); err != nil {
				return
			}
		}
	})
}

// TestUnread has a peer close before and after it has received: the kernel tells which.
func TestUnread(t *testing.T) {
	for name, test := range map[string]struct {
		size    int // of the message
		packets int // that the peer receives
		unread  bool
	}{
		"nothing received":    {1, 0, true},
		"all received":        {1, 1, false},
		"two of four packets": {3 * maxPacket, 2, true},
		"all packets":         {3 * maxPacket, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			if err := a.Send(failure(test.size)); err != nil {
				t.Fatal(err)
			}
			for range test.packets {
				if err := b.receivePacket(); err != nil {
					t.Fatal(err)
				}
			}
			other, err := unix.Dup(b.socket.FD())
			if err != nil {
				t.Fatal(err)
			}
			b.Close()
			if err := a.SetTimeouts(time.Millisecond, time.Millisecond); err != nil {
				t.Fatal(err)
			}
			var got wire.PluginMessage
			if _, err := a.Receive(&got); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("while another descriptor is open: %v", err)
			}
			unix.Close(other)
			if _, err := a.Receive(&got); !errors.Is(err, io.EOF) || errors.Is(err, errUnread) != test.unread {
				t.Errorf("got %v", err)
			}
			if err := a.Send(failure(1)); !errors.Is(err, errUnread) {
				t.Errorf("sending later: %v", err)
			}
		})
	}
}
