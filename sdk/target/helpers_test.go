package target

import (
	"context"
	"errors"
	"testing"
)

// TestHelpers has as many as may be in one namespace.
func TestHelpers(t *testing.T) {
	count := helperCount{slots: map[NamespaceID]*slots{}}
	full, other := NamespaceID{Ino: 1}, NamespaceID{Ino: 2}
	enter := func(namespace NamespaceID) func() {
		t.Helper()
		leave, err := count.enter(t.Context(), namespace)
		if err != nil {
			t.Fatal(err)
		}
		return leave
	}
	var leave []func()
	for range maxHelpers {
		leave = append(leave, enter(full))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := count.enter(cancelled, full); err != context.Canceled {
		t.Errorf("one more: %v", err)
	}
	first, leave := leave[0], append(leave[1:], enter(other))
	entered := make(chan func())
	go func() { entered <- enter(full) }()
	first()
	(<-entered)()
	for _, fn := range leave {
		fn()
	}
	if len(count.slots) != 0 {
		t.Errorf("%d namespaces are kept", len(count.slots))
	}
}

// TestFirstOf has both ends there at once: the context's error is what counts.
func TestFirstOf(t *testing.T) {
	killed := errors.New("killed")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		for name, test := range map[string]struct {
			ctx     context.Context
			failure error
			want    error
		}{
			"ended":                {t.Context(), nil, nil},
			"failed":               {t.Context(), killed, killed},
			"ended and cancelled":  {cancelled, nil, context.Canceled},
			"killed and cancelled": {cancelled, killed, context.Canceled},
		} {
			ended := make(chan error, 1)
			ended <- test.failure
			if err := firstOf(test.ctx, ended); err != test.want {
				t.Fatalf("%s: got %v, want %v", name, err, test.want)
			}
		}
	}
}
