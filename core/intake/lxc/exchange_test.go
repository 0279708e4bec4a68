package lxc

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

func TestAnswers(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	for name, test := range map[string]struct {
		answer func(x *Exchange, id uint64) error
		want   testcaller.Result
	}{
		"value":          {func(x *Exchange, id uint64) error { return x.SendValue(id, 1<<40) }, testcaller.Result{Value: 1 << 40}},
		"negative value": {func(x *Exchange, id uint64) error { return x.SendValue(id, -5000) }, testcaller.Result{Value: -5000}},
		"errno":          {func(x *Exchange, id uint64) error { return x.SendErrno(id, unix.EXDEV) }, testcaller.Result{Errno: unix.EXDEV}},
		"continue":       {(*Exchange).SendContinue, testcaller.Result{Value: 0}}, // the parent is in another pid namespace
	} {
		t.Run(name, func(t *testing.T) {
			result := m.caller.Go(unix.SYS_GETPPID, 1, 2, 3, 4, 5, 6)
			n := m.forward(t)
			x := s.receive(t)
			if x.Notification != n || x.Init != m.caller.PID || x.Cookie != "biscuit" || x.caller.TID() != int(n.TID) {
				t.Errorf("got %+v", x)
			}
			if left := time.Until(x.End); left <= 0 || left > Patience {
				t.Errorf("the answer must be there in %v", left)
			}
			if !x.Valid(n.ID) || x.Valid(n.ID+1) {
				t.Error("which notification is valid is not known")
			}
			if err := test.answer(x, n.ID); err != nil {
				t.Fatal(err)
			}
			if err := m.reply(t, n); err != nil {
				t.Fatal(err)
			}
			if got := testcaller.Await(t, result); got.Errno != test.want.Errno || got.Errno == 0 && got.Value != test.want.Value {
				t.Errorf("the caller got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestAddFD: the descriptor arrives, and LXC, which finds the call answered, goes on with the next.
func TestAddFD(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	for _, full := range []bool{false, true} {
		if full {
			m.caller.FillTable(t)
		}
		result := m.caller.Go(unix.SYS_GETPPID)
		n := m.forward(t)
		x := s.receive(t)
		number, err := x.SendFD(n.ID, int(os.Stdin.Fd()), true)
		if full {
			if !errors.Is(err, unix.EMFILE) {
				t.Errorf("a full table: %v", err)
			}
			if err := x.SendErrno(n.ID, unix.EMFILE); err != nil {
				t.Error(err)
			}
			if err := m.reply(t, n); err != nil {
				t.Error(err)
			}
			if got := testcaller.Await(t, result); got.Errno != unix.EMFILE {
				t.Errorf("the caller got %+v", got)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := m.reply(t, n); !errors.Is(err, notify.ErrGone) {
			t.Errorf("LXC's answer: %v", err)
		}
		if got := testcaller.Await(t, result); got.Value != int64(number) {
			t.Errorf("the caller got %+v, want %d", got, number)
		}
	}
}

// An answer that LXC does not wait for would be the next call's: it is not sent, and the connection is closed.
func TestNoAnswerTooLate(t *testing.T) {
	for way, answer := range ways {
		t.Run(way, func(t *testing.T) {
			b := listen(t)
			m, s := newMonitor(t, b)
			m.caller.Go(unix.SYS_GETPPID)
			n := m.forward(t)
			x := s.receive(t)
			x.received = x.received.Add(-sendLimit)
			if err := answer(x); !errors.Is(err, notify.ErrGone) {
				t.Errorf("the answer: %v", err)
			}
			if _, err := s.Receive(); !errors.Is(err, notify.ErrGone) {
				t.Errorf("the next notification: %v", err)
			}
			s.done()
			if err := m.reply(t, n); !errors.Is(err, io.EOF) {
				t.Errorf("LXC got %v", err)
			}
		})
	}
}

var ways = map[string]func(x *Exchange) error{
	"value":   func(x *Exchange) error { return x.SendValue(x.Notification.ID, 1) },
	"errno":   func(x *Exchange) error { return x.SendErrno(x.Notification.ID, unix.EPERM) },
	"without": func(x *Exchange) error { return notify.ErrGone },
	"value, without LXC": func(x *Exchange) error {
		_, err := x.SendValueDoubting(x.Notification.ID, 1)
		return err
	},
	"descriptor": func(x *Exchange) error {
		_, err := x.SendFD(x.Notification.ID, 0, false)
		return err
	},
}

// A caller that a signal has taken out of its call gets no answer, which LXC finds out, and makes the call again, over
// the same connection.
func TestInterrupted(t *testing.T) {
	for way, answer := range ways {
		t.Run(way, func(t *testing.T) {
			b := listen(t)
			m := &monitor{caller: testcaller.Start(t, 0)}
			m.caller.Interruptible = true
			s := m.begin(t, b)
			result := m.caller.Go(unix.SYS_GETPPID)
			n := m.forward(t)
			x := s.receive(t)
			m.caller.Interrupt(t, unix.SYS_GETPPID)
			for x.Valid(n.ID) {
			}
			if err := answer(x); !errors.Is(err, notify.ErrGone) {
				t.Errorf("the answer: %v", err)
			}
			received := make(chan *Exchange, 1)
			go func() {
				x, _ := s.Receive()
				received <- x
			}()
			if err := m.reply(t, n); !errors.Is(err, notify.ErrGone) {
				t.Errorf("LXC finds %v", err)
			}
			again := m.forward(t)
			if again.ID == n.ID || again.TID != n.TID || again.IP != n.IP {
				t.Errorf("%+v is not %+v again", again, n)
			}
			if _, err := (<-received).SendValueDoubting(again.ID, 7); err != nil {
				t.Error(err)
			}
			if err := m.reply(t, again); !errors.Is(err, notify.ErrGone) {
				t.Errorf("LXC, which finds the call answered: %v", err)
			}
			if got := testcaller.Await(t, result); got.Value != 7 {
				t.Errorf("the caller got %+v", got)
			}
		})
	}
}

func TestOneAnswer(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	result := m.caller.Go(unix.SYS_GETPPID)
	n := m.forward(t)
	x := s.receive(t)
	if err := x.SendErrno(n.ID, unix.EPERM); err != nil {
		t.Fatal(err)
	}
	if err := x.SendErrno(n.ID, unix.EXDEV); !errors.Is(err, notify.ErrGone) {
		t.Errorf("a second answer: %v", err)
	}
	if _, err := x.SendFD(n.ID, 0, false); !errors.Is(err, notify.ErrGone) {
		t.Errorf("a descriptor after the answer: %v", err)
	}
	s.done()
	if err := m.reply(t, n); err != nil {
		t.Error(err)
	}
	if err := m.reply(t, n); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer LXC got %v", err)
	}
	if got := testcaller.Await(t, result); got.Errno != unix.EPERM {
		t.Errorf("the caller got %+v", got)
	}
}

// A notification that was passed over is not left waiting.
func TestUnanswered(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	result := m.caller.Go(unix.SYS_GETPPID)
	n := m.forward(t)
	s.receive(t)
	received := make(chan struct{})
	go func() {
		defer close(received)
		s.Receive()
	}()
	if err := m.reply(t, n); err != nil {
		t.Error(err)
	}
	if got := testcaller.Await(t, result); got.Errno != unix.ENOSYS {
		t.Errorf("the caller got %+v", got)
	}
	m.conn.Close()
	<-received
}

func TestMonitorGone(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	m.caller.Go(unix.SYS_GETPPID)
	m.forward(t)
	x := s.receive(t)
	m.conn.Close()
	if err := x.SendValue(x.Notification.ID, 1); !errors.Is(err, notify.ErrGone) {
		t.Errorf("the answer: %v", err)
	}
	if _, err := s.Receive(); !errors.Is(err, notify.ErrGone) {
		t.Errorf("the next notification: %v", err)
	}
}

// A monitor that takes no replies holds up nobody.
func TestMonitorDoesNotRead(t *testing.T) {
	b := listen(t)
	m, s := newMonitor(t, b)
	for range 10_000 {
		m.caller.Go(unix.SYS_GETPPID)
		n := m.forward(t)
		x := s.receive(t)
		err := x.SendValue(n.ID, 1)
		if errors.Is(err, notify.ErrGone) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		m.SendValue(n.ID, 1)
	}
	t.Error("replies are sent for ever")
}
