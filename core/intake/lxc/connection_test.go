package lxc

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testpeer"
	"github.com/intercede/intercede/core/socket"
	"golang.org/x/sys/unix"
)

func TestBadPackets(t *testing.T) {
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, test := range map[string]struct {
		data func(good []byte) []byte
		fds  func(good []int) []int
		want error
	}{
		"no descriptors":              {fds: func([]int) []int { return nil }, want: ErrDescriptors},
		"one":                         {fds: func(good []int) []int { return good[:1] }, want: ErrDescriptors},
		"four":                        {fds: func(good []int) []int { return append(good, good[0]) }, want: ErrDescriptors},
		"more than there is room for": {fds: func(good []int) []int { return append(good, good[0], good[1], good[2]) }, want: ErrDescriptors},
		"no listener":                 {fds: func(good []int) []int { return []int{good[0], good[1], int(file.Fd())} }, want: ErrDescriptors},
		"listener first":              {fds: func(good []int) []int { return []int{good[2], good[0], good[1]} }, want: ErrDescriptors},
		"nothing":                     {data: func([]byte) []byte { return nil }, fds: func([]int) []int { return nil }, want: io.EOF},
		"too short":                   {data: func(good []byte) []byte { return good[:100] }, want: ErrPacket},
		"too long":                    {data: func(good []byte) []byte { return append(good, make([]byte, maxCookie)...) }, want: ErrPacket},
		"another's monitor":           {data: func(good []byte) []byte { return changed(good, 8, 1, 0, 0, 0) }, want: ErrPacket},
	} {
		t.Run(name, func(t *testing.T) {
			b := listen(t)
			m, s := newMonitor(t, b)
			m.caller.Go(unix.SYS_GETPPID)
			n, data := m.next(t)
			fds := m.rights(t, &n, 3)
			if test.data != nil {
				data = test.data(data)
			}
			if test.fds != nil {
				fds = test.fds(fds)
			}
			before := openDescriptors(t)
			m.send(t, data, fds)
			if _, err := s.Receive(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("%d descriptors are open, before %d", after, before)
			}
			s.done()
			if err := m.reply(t, n); !errors.Is(err, io.EOF) {
				t.Errorf("the monitor got %v", err)
			}
		})
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Where the thread that the monitor names is none, or not the notification's, the caller gets ENOSYS, and LXC goes on
// with the next one over the same connection.
func TestNobodyCalls(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	received := make(chan *Exchange, 1)
	go func() {
		x, _ := s.Receive()
		received <- x
	}()
	result := m.caller.Go(unix.SYS_GETPPID)
	n, data := m.next(t)
	m.send(t, changed(data, headerSize+8, 255, 255, 255, 63), m.rights(t, &n, 3))
	if err := m.reply(t, n); err != nil {
		t.Fatal(err)
	}
	if got := testcaller.Await(t, result); got.Errno != unix.ENOSYS {
		t.Errorf("the caller got %+v", got)
	}
	result = m.caller.Go(unix.SYS_GETPPID)
	n = m.forward(t)
	if err := (<-received).SendValue(n.ID, 7); err != nil {
		t.Fatal(err)
	}
	if err := m.reply(t, n); err != nil {
		t.Fatal(err)
	}
	if got := testcaller.Await(t, result); got.Value != 7 {
		t.Errorf("the caller got %+v", got)
	}
}

// Nothing is left of an exchange once it has ended.
func TestDescriptorsAreClosed(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	var before int
	for i := range 20 {
		m.caller.Go(unix.SYS_GETPPID)
		n, data := m.next(t)
		fds := m.rights(t, &n, 3)
		m.send(t, data, fds)
		if err := s.receive(t).SendValue(n.ID, 1); err != nil {
			t.Fatal(err)
		}
		if err := m.reply(t, n); err != nil {
			t.Fatal(err)
		}
		unix.Close(fds[0])
		unix.Close(fds[1])
		if i == 0 {
			before = openDescriptors(t)
		}
	}
	if after := openDescriptors(t); after != before {
		t.Errorf("%d descriptors are open, after the first exchange %d", after, before)
	}
}

// An LXC that keeps the listener to itself is told ENOSYS, call by call, and the operator once.
func TestOldLXC(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	received := make(chan error)
	go func() {
		_, err := s.Receive()
		received <- err
	}()
	for range 3 {
		result := m.caller.Go(unix.SYS_GETPPID)
		n, data := m.next(t)
		m.send(t, data, m.rights(t, &n, 2))
		if err := m.reply(t, n); err != nil {
			t.Fatal(err)
		}
		if got := testcaller.Await(t, result); got.Errno != unix.ENOSYS {
			t.Errorf("the caller got %+v", got)
		}
	}
	m.conn.Close()
	if err := <-received; !errors.Is(err, io.EOF) {
		t.Errorf("in the end: %v", err)
	}
	if told := len(b.refusals); told != 1 {
		t.Fatalf("the operator was told %d times", told)
	}
	if err := <-b.refusals; !errors.Is(err, ErrOldLXC) {
		t.Errorf("the operator was told %v", err)
	}
}

// A connection is one container's.
func TestAnotherContainer(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	m.caller.Go(unix.SYS_GETPPID)
	n := m.forward(t)
	if err := s.receive(t).SendValue(n.ID, 1); err != nil {
		t.Fatal(err)
	}
	if err := m.reply(t, n); err != nil {
		t.Fatal(err)
	}
	other := *m
	other.caller = testcaller.Start(t, 0)
	m.caller.Go(unix.SYS_GETPPID)
	other.forward(t)
	if _, err := s.Receive(); !errors.Is(err, ErrPacket) {
		t.Errorf("got %v", err)
	}
}

// A monitor whose pids are those of another pid namespace is of no use.
func TestPeerInAnotherPIDNamespace(t *testing.T) {
	caller := testcaller.Start(t, 0)
	if err := checkPeer(unix.Ucred{Pid: int32(caller.PID)}); err == nil || !strings.Contains(err.Error(), "another pid namespace") {
		t.Errorf("got %v", err)
	}
	if err := checkPeer(unix.Ucred{}); err == nil {
		t.Error("one that is not visible at all is taken")
	}
	if err := checkPeer(unix.Ucred{Pid: int32(os.Getpid())}); err != nil {
		t.Error(err)
	}
}

func TestMonitorEnds(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	m.conn.Close()
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// One user's silent connections leave enough for root.
func TestSilentUserHoldsNobodyUp(t *testing.T) {
	b := listen(t)
	const attempts, has = 120, 38 // of 100 that are served at once
	hangUp := testpeer.Connect(t, 1000, "unixpacket", b.path, attempts, "")
	for range has {
		s := <-b.connections
		t.Cleanup(func() {
			hangUp()
			s.done()
		})
	}
	for range attempts - has {
		if err := <-b.refusals; !errors.Is(err, socket.ErrTooMany) {
			t.Fatal(err)
		}
	}
	m, s := newMonitor(t, b)
	result := m.caller.Go(unix.SYS_GETPPID)
	n := m.forward(t)
	if err := s.receive(t).SendValue(n.ID, 7); err != nil {
		t.Fatal(err)
	}
	if err := m.reply(t, n); err != nil {
		t.Fatal(err)
	}
	if got := testcaller.Await(t, result); got.Value != 7 {
		t.Errorf("the caller got %+v", got)
	}
}

// When serving ends, a silent connection ends, and a call that is being handled is answered still.
func TestServeEnds(t *testing.T) {
	b := listen(t)
	_, silent := newMonitor(t, b)
	m, busy := newMonitor(t, b)
	result := m.caller.Go(unix.SYS_GETPPID)
	n := m.forward(t)
	x := busy.receive(t)
	b.end()
	if _, err := silent.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("a silent connection: %v", err)
	}
	if err := x.SendErrno(n.ID, unix.EXDEV); err != nil {
		t.Error(err)
	}
	if _, err := busy.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: %v", err)
	}
	if err := m.reply(t, n); err != nil {
		t.Error(err)
	}
	if got := testcaller.Await(t, result); got.Errno != unix.EXDEV {
		t.Errorf("the caller got %+v", got)
	}
}
