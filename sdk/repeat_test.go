package sdk

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// repeater is a handler whose getppid has a class.
type repeater struct {
	trial
	class Repeat
}

func (h *repeater) Manifest() Manifest {
	m := h.trial.Manifest()
	m.Syscalls[0].Repeat = h.class
	return m
}

func (h *repeater) Attach(ctx context.Context, c Container, s Settings) (Session, error) {
	return h.trial.Attach(ctx, c, s)
}

// checker is a session that can check calls.
type checker struct {
	trial
	check func(*Request) (Response, bool, error)
}

func (c *checker) Check(_ context.Context, req *Request) (Response, bool, error) { return c.check(req) }

// TestCheckerIsRequired has a session without Check: it is refused where the manifest needs one.
func TestCheckerIsRequired(t *testing.T) {
	for _, test := range []struct {
		class   Repeat
		session Session
		refused string
	}{
		{RepeatNever, &trial{}, ""},
		{RepeatSafe, &trial{}, ""},
		{RepeatCheck, &trial{}, "the manifest has RepeatCheck for getppid, and the session, a *sdk.trial, is not an sdk.Checker"},
		{RepeatCheck, &checker{}, ""},
	} {
		h := &repeater{class: test.class}
		closed := false
		h.attach = func() (Session, error) { return test.session, nil }
		if s, ok := test.session.(*trial); ok {
			s.close = func() error { closed = true; return nil }
		}
		server, err := newServer(h)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := server.Attach(t.Context(), &wire.AttachRequest{Session: 1, SettingsJson: "{}"})
		if err != nil || !strings.HasPrefix(reply.GetRefused(), test.refused) || (reply.GetRefused() == "") != (test.refused == "") {
			t.Errorf("class %d, %T: %v, %v", test.class, test.session, reply, err)
		}
		if closed != (test.refused != "") {
			t.Errorf("class %d, %T: closed %v", test.class, test.session, closed)
		}
	}
}

// TestCheck has a notification come again: what Check says decides.
func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		again bool
		check func(*Request) (Response, bool, error)
		value int64
		err   string
	}{
		"the first time": {false, func(*Request) (Response, bool, error) { return Return(1), true, nil }, 2, ""},
		"done":           {true, func(*Request) (Response, bool, error) { return Return(1), true, nil }, 1, ""},
		"not done":       {true, func(*Request) (Response, bool, error) { return Response{}, false, nil }, 2, ""},
		"error":          {true, func(*Request) (Response, bool, error) { return Response{}, false, errors.New("no luck") }, 0, "no luck"},
	} {
		t.Run(name, func(t *testing.T) {
			session := &checker{check: test.check}
			session.handle = func(_ context.Context, req *Request) (Response, error) {
				if req.Again != test.again || !req.Received.Equal(time.Unix(5, 7)) {
					t.Errorf("again %v, received %v", req.Again, req.Received)
				}
				return Return(2), nil
			}
			h := &repeater{class: RepeatCheck}
			h.attach = func() (Session, error) { return session, nil }
			s, err := newServer(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Attach(t.Context(), &wire.AttachRequest{Session: 1, SettingsJson: "{}"}); err != nil {
				t.Fatal(err)
			}
			n := &wire.Notification{Session: 1, Syscall: "getppid", Args: make([]uint64, 6), Again: test.again, ReceivedNs: 5e9 + 7}
			response, err := s.answer(t.Context(), n, transport{})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || response.value != test.value {
				t.Errorf("got %v, %v", response, err)
			}
		})
	}
}

func TestChangedSince(t *testing.T) {
	received := time.Unix(100, 500)
	req := &Request{Received: received}
	for _, test := range []struct {
		ctime unix.Timespec
		want  bool
	}{
		{unix.Timespec{Sec: 100, Nsec: 500}, true},
		{unix.Timespec{Sec: 100, Nsec: 501}, true},
		{unix.Timespec{Sec: 101, Nsec: 1}, true},
		{unix.Timespec{Sec: 100, Nsec: 499}, false},
		{unix.Timespec{Sec: 99, Nsec: 999}, false},
		{unix.Timespec{Sec: 100, Nsec: 0}, true}, // a filesystem of whole seconds
		{unix.Timespec{Sec: 99, Nsec: 0}, false},
	} {
		if got := req.ChangedSince(test.ctime); got != test.want {
			t.Errorf("%+v: %v", test.ctime, got)
		}
	}
}
