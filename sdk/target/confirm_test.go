package target_test

import (
	"context"
	"errors"
	"os"
	"testing"

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

func acted(_ any, err error) error {
	if err == nil {
		return errActed
	}
	return err
}

// TestActsConfirm has every method that acts ask whether the thread still waits, after it has read what it needs, and
// do nothing where it does not.
func TestActsConfirm(t *testing.T) {
	_, _, parked := park(t)
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			asked, gone := 0, errors.New("gone")
			answer := gone
			opened := target.Waiting(parked.TID(), func() error { asked++; return answer })
			defer opened.Close()
			if err := act(t.Context(), opened); !errors.Is(err, gone) || asked != 1 {
				t.Errorf("of a thread that waits no more: %v, asked %d times", err, asked)
			}
			answer = nil
			if err := act(t.Context(), opened); !errors.Is(err, errActed) || asked < 2 || asked > 3 {
				t.Errorf("of a thread that waits: %v, asked %d times", err, asked)
			}
		})
	}
}

// TestConfirmOnce asks once for all that was read, and again only for what is read later.
func TestConfirmOnce(t *testing.T) {
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
		file, _, err := waiting.OpenDescriptor(0)
		if err == nil {
			file.Close()
		}
		return err
	}
	for _, step := range []struct {
		name string
		fn   func() error
		want int
	}{
		{"reads", read, 0}, {"Do after reads", do, 1}, {"Do on what is confirmed", do, 1},
		{"a later read", descriptor, 1}, {"Do after it", do, 2},
		{"Confirm, whatever was read", waiting.Confirm, 3}, {"Do after that", do, 3}, {"another read", descriptor, 3},
		{"Confirm", waiting.Confirm, 4}, {"Do at the end", do, 4},
	} {
		if err := step.fn(); err != nil || asked != step.want {
			t.Errorf("%s: %v, asked %d times, want %d", step.name, err, asked, step.want)
		}
	}
}
