package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testpeer"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testcaller.Init()
	testpeer.Init()
	os.Exit(m.Run())
}

// monitor does what LXC's does, for a container that notifies getppid.
type monitor struct {
	conn     *net.UnixConn
	caller   *testcaller.Caller
	listener *os.File
	notify.FD
}

// broker is the server under test. Its connections wait for the test.
type broker struct {
	path        string
	connections chan *served
	refusals    chan error
	end         context.CancelFunc
	*Server
}

// served is a connection whose handler lasts until it is released.
type served struct {
	*Connection
	release chan struct{}
}

func listen(t *testing.T) *broker {
	t.Helper()
	dir, err := os.MkdirTemp("", "lxc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &broker{path: dir + "/s", connections: make(chan *served), refusals: make(chan error, 100)}
	if b.Server, err = Listen(b.path, nil, func(_ unix.Ucred, err error) { b.refusals <- err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.end = cancel
	done := make(chan error)
	go func() {
		done <- b.Serve(ctx, 100, nil, func(c *Connection) {
			s := &served{c, make(chan struct{})}
			b.connections <- s
			<-s.release
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// newMonitor starts a container, and its monitor's connection.
func newMonitor(t *testing.T, b *broker) (*monitor, *served) {
	t.Helper()
	m := &monitor{caller: testcaller.Start(t, 0)}
	return m, m.begin(t, b)
}

// begin gets the container's listener, and connects.
func (m *monitor) begin(t *testing.T, b *broker) *served {
	t.Helper()
	m.listener = m.caller.Listener(t, unix.SYS_GETPPID)
	t.Cleanup(func() { m.listener.Close() })
	m.FD = notify.FD(m.listener.Fd())
	return m.connect(t, b)
}

func (m *monitor) connect(t *testing.T, b *broker) *served {
	t.Helper()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: b.path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m.conn = conn
	select {
	case s := <-b.connections:
		t.Cleanup(func() {
			conn.Close()
			s.done()
		})
		return s
	case err := <-b.refusals:
		t.Fatal(err)
	case <-time.After(testcaller.Timeout):
		t.Fatal("nobody accepts")
	}
	return nil
}

// done ends the handler.
func (s *served) done() {
	select {
	case <-s.release:
	default:
		close(s.release)
	}
}

// next takes the next notification from the kernel and makes its packet.
func (m *monitor) next(t *testing.T) (notify.Notification, []byte) {
	t.Helper()
	if pending, _, err := m.Poll(int(testcaller.Timeout / time.Millisecond)); err != nil || !pending {
		t.Fatalf("no notification: %v", err)
	}
	var n notify.Notification
	if err := m.Receive(&n); err != nil {
		t.Fatal(err)
	}
	return n, m.packet(&n, "biscuit")
}

func (m *monitor) packet(n *notify.Notification, cookie string) []byte {
	return encode(&header{
		Monitor: int32(os.Getpid()), Init: int32(m.caller.PID),
		NotificationSize: notificationSize, ResponseSize: responseSize, DataSize: dataSize, CookieLength: uint64(len(cookie)),
	}, n, &response{ID: n.ID}, []byte(cookie))
}

// rights are the first descriptors of a packet about the thread, which are then the caller's.
func (m *monitor) rights(t *testing.T, n *notify.Notification, count int) []int {
	t.Helper()
	var fds []int
	open := func(path string, flags int) {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	open(fmt.Sprintf("/proc/%d", n.TID), unix.O_DIRECTORY)
	open(fmt.Sprintf("/proc/%d/mem", n.TID), unix.O_RDWR)
	for len(fds) < count {
		fds = append(fds, int(m.FD))
	}
	return fds[:count]
}

func (m *monitor) send(t *testing.T, data []byte, fds []int) {
	t.Helper()
	var control []byte
	if len(fds) > 0 {
		control = unix.UnixRights(fds...)
	}
	if _, _, err := m.conn.WriteMsgUnix(data, control, nil); err != nil {
		t.Fatal(err)
	}
}

// forward hands on the next notification.
func (m *monitor) forward(t *testing.T) notify.Notification {
	t.Helper()
	n, data := m.next(t)
	m.send(t, data, m.rights(t, &n, 3))
	return n
}

// reply reads the reply and gives it to the kernel, as LXC does; io.EOF if the connection was closed.
func (m *monitor) reply(t *testing.T, n notify.Notification) error {
	t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(testcaller.Timeout))
	data := make([]byte, 2*maxPacket)
	count, err := m.conn.Read(data)
	if err != nil {
		return err
	}
	if count == 0 {
		return io.EOF
	}
	if count != 136 {
		t.Fatalf("a reply of %d bytes", count)
	}
	var r response
	decode(data[responseAt:ReplySize], &r)
	if r.ID != n.ID {
		t.Errorf("a reply to %d, want %d", r.ID, n.ID)
	}
	switch {
	case r.Flags == unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE && r.Errno == 0 && r.Value == 0:
		return m.SendContinue(n.ID)
	case r.Flags == 0 && r.Errno < 0 && r.Value == 0:
		return m.SendErrno(n.ID, unix.Errno(-r.Errno))
	case r.Flags == 0 && r.Errno == 0:
		return m.SendValue(n.ID, r.Value)
	}
	t.Errorf("the kernel does not take %+v", r)
	return errors.New("bad reply")
}

// receive is the broker's Receive, which must succeed.
func (s *served) receive(t *testing.T) *Exchange {
	t.Helper()
	x, err := s.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return x
}
