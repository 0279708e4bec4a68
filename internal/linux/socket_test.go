package linux

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair makes two connected sockets that receive up to most descriptors. They are closed with the test.
func pair(t testing.TB, kind, most int) (*Socket, *Socket) {
	t.Helper()
	ours, theirs, err := Socketpair(kind)
	if err != nil {
		t.Fatal(err)
	}
	a, b := NewSocket(ours, most), NewSocket(theirs, most)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	return a, b
}

// open lists the descriptors of this process.
func open(t testing.TB) []string {
	t.Helper()
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// requireNoLeak fails the test if more descriptors are open when it ends than are now. Call it first.
func requireNoLeak(t *testing.T) {
	t.Helper()
	before := len(open(t))
	t.Cleanup(func() {
		if after := open(t); len(after) > before {
			t.Errorf("%d descriptors are open, before %d: %v", len(after), before, after)
		}
	})
}

func temporary(t *testing.T) *os.File {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestSocketDescriptors(t *testing.T) {
	for name, kind := range map[string]int{"messages": unix.SOCK_SEQPACKET, "datagrams": unix.SOCK_DGRAM, "stream": unix.SOCK_STREAM} {
		for most := range 5 {
			t.Run(fmt.Sprintf("%d in %s", most, name), func(t *testing.T) {
				requireNoLeak(t)
				a, b := pair(t, kind, most)
				file := temporary(t)
				sent := slices.Repeat([]int{int(file.Fd())}, most)
				if err := a.Send([]byte("text"), sent...); err != nil {
					t.Fatal(err)
				}
				data := make([]byte, 10)
				n, fds, err := b.Receive(data)
				if err != nil || string(data[:n]) != "text" || len(fds) != most {
					t.Fatalf("%q with %d descriptors, %v", data[:n], len(fds), err)
				}
				for _, fd := range fds {
					flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
					if err != nil || flags&unix.FD_CLOEXEC == 0 || inode(t, fd) != inode(t, int(file.Fd())) {
						t.Errorf("descriptor %d has flags %#x, %v, or is another file", fd, flags, err)
					}
				}
				CloseAll(fds...)
			})
		}
	}
}

// One descriptor more than there is room for is refused, also where the padding of the control data could hold it.
func TestSocketTooManyDescriptors(t *testing.T) {
	requireNoLeak(t)
	for most := range 5 {
		for _, count := range []int{most + 1, 100} {
			a, b := pair(t, unix.SOCK_SEQPACKET, most)
			if err := a.Send([]byte{1}, make([]int, count)...); err != nil {
				t.Fatal(err)
			}
			n, fds, err := b.Receive(make([]byte, 10))
			if !errors.Is(err, ErrDescriptors) || n != 0 || fds != nil {
				t.Errorf("%d for %d: %d bytes, %d descriptors, %v", count, most, n, len(fds), err)
			}
			a.Close()
			b.Close()
		}
	}
}

// A process whose table is full gets some of the descriptors: they are closed.
func TestSocketFullTable(t *testing.T) {
	requireNoLeak(t)
	a, b := pair(t, unix.SOCK_SEQPACKET, 4)
	if err := a.Send([]byte{1}, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	free, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free) + 2, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, fds, err := b.Receive(make([]byte, 1))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, ErrDescriptors) || fds != nil {
		t.Errorf("%d descriptors, %v", len(fds), err)
	}
}

func TestSocketTruncated(t *testing.T) {
	requireNoLeak(t)
	a, b := pair(t, unix.SOCK_SEQPACKET, 2)
	if err := a.Send(make([]byte, 11), 0, 1); err != nil {
		t.Fatal(err)
	}
	if n, fds, err := b.Receive(make([]byte, 10)); !errors.Is(err, ErrTruncated) || n != 0 || fds != nil {
		t.Errorf("%d bytes, %d descriptors, %v", n, len(fds), err)
	}
}

// Credentials that were asked for come before the descriptors, and take their room.
func TestSocketOtherControlData(t *testing.T) {
	requireNoLeak(t)
	a, b := pair(t, unix.SOCK_SEQPACKET, 16)
	if err := unix.SetsockoptInt(b.FD(), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	for _, sent := range [][]int{{0}, {}} {
		if err := a.Send([]byte{1}, sent...); err != nil {
			t.Fatal(err)
		}
		n, fds, err := b.Receive(make([]byte, 1))
		if n != 1 || len(fds) != len(sent) || err != nil {
			t.Errorf("%d sent: %d bytes, %d descriptors, %v", len(sent), n, len(fds), err)
		}
		CloseAll(fds...)
	}
}

// The memory that came with descriptors is not taken for that of the next message.
func TestSocketAgain(t *testing.T) {
	requireNoLeak(t)
	a, b := pair(t, unix.SOCK_SEQPACKET, 2)
	for _, sent := range [][]int{{0, 1}, {}, {0}, {}, {}} {
		for range 2 { // each end sends and receives
			if err := a.Send([]byte{1}, sent...); err != nil {
				t.Fatal(err)
			}
			n, fds, err := b.Receive(make([]byte, 8))
			if n != 1 || len(fds) != len(sent) || err != nil {
				t.Errorf("%d sent: %d bytes, %d descriptors, %v", len(sent), n, len(fds), err)
			}
			CloseAll(fds...)
			a, b = b, a
		}
	}
}

// A stream's data are sent in parts, and the descriptors once.
func TestSocketStream(t *testing.T) {
	requireNoLeak(t)
	a, b := pair(t, unix.SOCK_STREAM, 1)
	want := bytes.Repeat([]byte("0123456789"), 300_000)
	sent := make(chan error, 1)
	go func() { sent <- a.Send(want, 0) }()
	var got []byte
	var came int
	data := make([]byte, 1<<16)
	for len(got) < len(want) {
		n, fds, err := b.Receive(data)
		if err != nil {
			t.Fatal(err)
		}
		if came += len(fds); len(got) > 0 && len(fds) > 0 {
			t.Errorf("a descriptor came after %d bytes", len(got))
		}
		CloseAll(fds...)
		got = append(got, data[:n]...)
	}
	if err := <-sent; err != nil || came != 1 || !bytes.Equal(got, want) {
		t.Errorf("%d descriptors, %v, or other data", came, err)
	}
}

func TestSocketEnd(t *testing.T) {
	requireNoLeak(t)
	for _, kind := range []int{unix.SOCK_SEQPACKET, unix.SOCK_STREAM} {
		for name, end := range map[string]func(a, b *Socket){
			"closed":            func(a, _ *Socket) { a.Close() },
			"shut down":         func(a, _ *Socket) { a.Shutdown(unix.SHUT_RDWR) },
			"shut down by self": func(_, b *Socket) { b.Shutdown(unix.SHUT_RDWR) },
			"with data unread":  func(a, b *Socket) { b.Send([]byte{1}, 0); a.Close() },
		} {
			a, b := pair(t, kind, 1)
			end(a, b)
			if n, fds, err := b.Receive(make([]byte, 1)); err != io.EOF || n != 0 || fds != nil {
				t.Errorf("%s: %d bytes, %d descriptors, %v", name, n, len(fds), err)
			}
			if err := b.Send([]byte{1}); !errors.Is(err, unix.EPIPE) {
				t.Errorf("%s: sending: %v", name, err)
			}
			a.Close()
			b.Close()
		}
	}
	a, b := pair(t, unix.SOCK_SEQPACKET, 1)
	if err := a.Send(nil, 0); err != nil {
		t.Fatal(err)
	}
	if n, fds, err := b.Receive(make([]byte, 1)); err != io.EOF || n != 0 || fds != nil {
		t.Errorf("an empty message: %d bytes, %d descriptors, %v", n, len(fds), err)
	}
}

// The end wakes up who waits for a message.
func TestSocketShutdownWhileItWaits(t *testing.T) {
	_, b := pair(t, unix.SOCK_SEQPACKET, 1)
	received := make(chan error, 1)
	go func() {
		_, _, err := b.Receive(make([]byte, 1))
		b.Close()
		received <- err
	}()
	b.Shutdown(unix.SHUT_RD)
	b.Shutdown(unix.SHUT_RD)
	if err := <-received; err != io.EOF {
		t.Errorf("got %v", err)
	}
	b.Close()
	b.Shutdown(unix.SHUT_RD)
	if _, _, err := b.Receive(make([]byte, 1)); !errors.Is(err, unix.EBADF) || b.FD() != -1 {
		t.Errorf("after Close: descriptor %d, %v", b.FD(), err)
	}
	if err := b.Send([]byte{1}); !errors.Is(err, unix.EBADF) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSocketDoesNotBlock(t *testing.T) {
	a, b := pair(t, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 1)
	if _, _, err := b.Receive(make([]byte, 1)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("nothing sent: %v", err)
	}
	var err error
	for range 10_000 {
		if err = a.Send(make([]byte, 1000)); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a peer that does not receive: %v", err)
	}
	if err := a.Send([]byte{1}, 1<<20); !errors.Is(err, unix.EBADF) {
		t.Errorf("a descriptor that is not open: %v", err)
	}
}

// interrupt signals the thread until done is closed. The kernel ends a call with EINTR that waits on a socket with a
// timeout, although Go has its handlers restart calls (signal(7)).
func interrupt(thread int, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(100 * time.Microsecond):
			unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
		}
	}
}

func TestSocketInterrupted(t *testing.T) {
	minute := unix.Timeval{Sec: 60}
	for name, test := range map[string]struct {
		option  int
		prepare func(a, b *Socket)
		wait    func(b *Socket) error       // retries
		raw     func(fd int) error          // does not
		release func(a *Socket) (err error) // lets both end
	}{
		"receive": {
			unix.SO_RCVTIMEO,
			func(*Socket, *Socket) {},
			func(b *Socket) error { _, _, err := b.Receive(make([]byte, 1)); return err },
			func(fd int) error { _, _, _, _, err := unix.Recvmsg(fd, make([]byte, 1), nil, 0); return err },
			func(a *Socket) error { return a.Send([]byte{1}) },
		},
		"send": {
			unix.SO_SNDTIMEO,
			func(_, b *Socket) {
				for unix.Sendmsg(b.FD(), make([]byte, 1000), nil, nil, unix.MSG_DONTWAIT) == nil {
				}
			},
			func(b *Socket) error { return b.Send(make([]byte, 1000)) },
			func(fd int) error { return unix.Sendmsg(fd, make([]byte, 1000), nil, nil, 0) },
			func(a *Socket) error {
				unix.SetNonblock(a.FD(), true)
				for {
					if _, _, err := a.Receive(make([]byte, 1000)); err != nil {
						return nil
					}
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, unix.SOCK_SEQPACKET, 0)
			if err := unix.SetsockoptTimeval(b.FD(), unix.SOL_SOCKET, test.option, &minute); err != nil {
				t.Fatal(err)
			}
			test.prepare(a, b)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			thread := unix.Gettid()
			done := make(chan struct{})
			go interrupt(thread, done)
			err := test.raw(b.FD())
			close(done)
			if err != unix.EINTR {
				t.Fatalf("the plain call is not interrupted: %v", err)
			}
			done = make(chan struct{})
			released := make(chan error, 1)
			go func() {
				defer close(done)
				for range 50 {
					unix.Tgkill(unix.Getpid(), thread, unix.SIGURG)
					time.Sleep(time.Millisecond)
				}
				released <- test.release(a)
			}()
			if err := errors.Join(test.wait(b), <-released); err != nil {
				t.Error(err)
			}
			<-done
		})
	}
}

func TestSocketAllocatesNothing(t *testing.T) {
	a, b := pair(t, unix.SOCK_SEQPACKET, 1)
	data := make([]byte, 100)
	allocated := testing.AllocsPerRun(100, func() {
		if err := a.Send(data, a.FD()); err != nil {
			t.Fatal(err)
		}
		_, fds, err := b.Receive(data)
		if err != nil || len(fds) != 1 {
			t.Fatal(err)
		}
		unix.Close(fds[0])
	})
	if allocated != 0 {
		t.Errorf("%v allocations for a message", allocated)
	}
}

func TestSendAndReceive(t *testing.T) {
	requireNoLeak(t)
	ours, theirs, err := SocketpairFiles(unix.SOCK_SEQPACKET, "socket")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer theirs.Close()
	for range 2 { // the sockets stay open
		if err := Send(int(ours.Fd()), []byte("text"), 0, 1); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 10)
		n, fds, err := Receive(int(theirs.Fd()), data, 2)
		if err != nil || string(data[:n]) != "text" || len(fds) != 2 {
			t.Errorf("%q with %d descriptors, %v", data[:n], len(fds), err)
		}
		CloseAll(fds...)
	}
	if _, _, err := Socketpair(1 << 30); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a socket of no kind: %v", err)
	}
}

func TestPacket(t *testing.T) {
	requireNoLeak(t)
	a, b := pair(t, unix.SOCK_SEQPACKET, 1)
	file := temporary(t)
	text := []byte("text")
	with, without := NewPacket(text, true), NewPacket(text, false)
	*with.Descriptor = int32(file.Fd())
	text[0] = 'n' // a packet has no copy
	for packet, want := range map[*Packet]int{with: 1, without: 0} {
		if errno := packet.Send(uintptr(a.FD())); errno != 0 {
			t.Fatal(errno)
		}
		data := make([]byte, 10)
		n, fds, err := b.Receive(data)
		if err != nil || string(data[:n]) != "next" || len(fds) != want {
			t.Fatalf("%q with %d descriptors, %v", data[:n], len(fds), err)
		}
		if want == 1 && inode(t, fds[0]) != inode(t, int(file.Fd())) {
			t.Error("it is another file")
		}
		CloseAll(fds...)
	}
	*with.Descriptor = -1
	if errno := with.Send(uintptr(a.FD())); errno != unix.EBADF {
		t.Errorf("a descriptor that is not open: %v", errno)
	}
}

func TestCloseAll(t *testing.T) {
	requireNoLeak(t)
	ours, theirs, err := Socketpair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	CloseAll(ours, -1, theirs)
	CloseAll()
}

// A message is divided between two buffers, the first of which it may not fill.
func TestReceiveParts(t *testing.T) {
	a, b := pair(t, unix.SOCK_SEQPACKET, 1)
	for text, want := range map[string][2]string{"ab": {"ab..", "..."}, "abcd": {"abcd", "..."}, "abcdef": {"abcd", "ef."}} {
		if err := a.Send([]byte(text)); err != nil {
			t.Fatal(err)
		}
		first, rest := []byte("...."), []byte("...")
		if n, _, err := b.ReceiveParts(first, rest); err != nil || n != len(text) {
			t.Errorf("%q: %d bytes, %v", text, n, err)
		}
		if got := [2]string{string(first), string(rest)}; got != want {
			t.Errorf("%q: received %q, want %q", text, got, want)
		}
	}
	if err := a.Send([]byte("abcdefgh")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.ReceiveParts(make([]byte, 4), make([]byte, 3)); !errors.Is(err, ErrTruncated) {
		t.Errorf("a message that is too long: %v, want ErrTruncated", err)
	}
}
