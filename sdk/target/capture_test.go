package target_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// acts are the methods that act for the thread, or hand out what others act with.
var acts = map[string]func(ctx context.Context, t *target.Target) error{
	"Do":    func(_ context.Context, t *target.Target) error { return t.Do(0, func() error { return errActed }) },
	"Place": func(_ context.Context, t *target.Target) error { return acted(t.Place()) },
	"OpenAt": func(ctx context.Context, t *target.Target) error {
		return acted(t.OpenAt(ctx, unix.AT_FDCWD, "/", unix.O_PATH, 0))
	},
	"OpenPath": func(ctx context.Context, t *target.Target) error {
		return acted(t.OpenPath(ctx, unix.AT_FDCWD, "/", true))
	},
	"Reopen": func(ctx context.Context, t *target.Target) error {
		root, err := os.Open("/")
		if err != nil {
			return err
		}
		defer root.Close()
		return acted(t.Reopen(ctx, int(root.Fd()), unix.O_RDONLY))
	},
	"Start": func(ctx context.Context, t *target.Target) error {
		p, err := t.Start(ctx, target.Program{Paths: []string{"/bin/caller"}, Args: []string{"caller"}, Output: 2})
		if err == nil {
			p.Kill(ctx)
			p.Close()
		}
		return acted(p, err)
	},
}

var errActed = errors.New("it acted")

func acted(made any, err error) error {
	if err != nil {
		return err
	}
	switch opened := made.(type) {
	case *os.File:
		opened.Close() // else it would be closed at any time, while another test counts descriptors
	case int:
		unix.Close(opened)
	}
	return errActed
}

// TestActsAreConfirmed has every method that acts capture what it needs, ask whether the thread still waits, and do
// nothing where it does not.
func TestActsAreConfirmed(t *testing.T) {
	_, _, parked := park(t)
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			asked, gone := 0, errors.New("gone")
			answer := gone
			opened := target.Waiting(parked.TID(), func() error { asked++; return answer })
			defer opened.Close()
			if err := act(t.Context(), opened); !errors.Is(err, os.ErrProcessDone) || asked != 1 {
				t.Errorf("of a thread that waits no more: %v, asked %d times", err, asked)
			}
			answer = nil
			if err := act(t.Context(), opened); !errors.Is(err, errActed) {
				t.Errorf("of a thread that waits: %v", err)
			}
			answer = gone
			if err := act(t.Context(), opened); name != "Start" && name != "Reopen" && !errors.Is(err, errActed) {
				t.Errorf("with what was captured: %v", err)
			}
		})
	}
}

// TestCaptureOnce asks once for all that a method needs, and never again for what is there.
func TestCaptureOnce(t *testing.T) {
	_, _, parked := park(t)
	asked := 0
	waiting := target.Waiting(parked.TID(), func() error { asked++; return nil })
	defer waiting.Close()
	do := func() error { return waiting.Do(0, func() error { return nil }) }
	read := func() error {
		_, err := waiting.Credentials()
		_, err2 := waiting.UserNamespace()
		_, err3 := waiting.MountNamespaceOwner()
		return errors.Join(err, err2, err3)
	}
	descriptor := func() error {
		d, err := waiting.OpenDescriptor(0)
		if err == nil {
			d.File.Close()
		}
		return err
	}
	for _, step := range []struct {
		name string
		fn   func() error
		want int
	}{
		{"Do", do, 1}, {"Do again", do, 1}, {"what Do has captured", read, 1}, {"a descriptor", descriptor, 2},
		{"which is the caller's", descriptor, 3}, {"Do after it", do, 3},
	} {
		if err := step.fn(); err != nil || asked != step.want {
			t.Errorf("%s: %v, asked %d times, want %d", step.name, err, asked, step.want)
		}
	}
}

// TestActUntil does nothing when the caller has had its answer.
func TestActUntil(t *testing.T) {
	_, _, parked := park(t)
	do := func() error { return parked.Do(0, func() error { return errActed }) }
	parked.ActUntil(time.Now().Add(time.Hour))
	if err := do(); !errors.Is(err, errActed) {
		t.Errorf("in time: %v", err)
	}
	parked.ActUntil(time.Now().Add(-time.Millisecond))
	if err := do(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("too late: %v", err)
	}
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Millisecond))
	defer cancel()
	if _, err := parked.OpenPath(late, unix.AT_FDCWD, "/", true); err == nil {
		t.Error("a helper process acts too late")
	}
}
