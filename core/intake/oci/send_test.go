package oci

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestSendArrives(t *testing.T) {
	for name, annotation := range map[string]string{
		"small":        "<ünï\u2028>",
		"near the cap": strings.Repeat("x", MaxMessage-1024),
	} {
		t.Run(name, func(t *testing.T) {
			requireNoLeak(t)
			b := startBroker(t)
			state := exampleState()
			state.State.Annotations = map[string]string{"org.example": annotation}
			must(t, Send(t.Context(), b.path, state, newListener(t)))
			arrival := b.nextArrival(t)
			requireOurs(t, arrival)
			state.Fds = []string{specs.SeccompFdName}
			if !reflect.DeepEqual(arrival.State, state) {
				t.Error("another state arrived than was sent")
			}
		})
	}
}

func TestSendRefuses(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t)
	unnamed, large := exampleState(), exampleState()
	unnamed.State.ID = ""
	large.Metadata = strings.Repeat("x", MaxMessage)
	listener := newListener(t)
	_, w := newPipe(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		got  error
		want error
	}{
		"no ID":        {Send(t.Context(), b.path, unnamed, listener), ErrMessage},
		"too large":    {Send(t.Context(), b.path, large, listener), ErrMessage},
		"no broker":    {Send(t.Context(), filepath.Join(shortDir(t), "s"), exampleState(), listener), unix.ENOENT},
		"long path":    {Send(t.Context(), "/"+strings.Repeat("x", 200), exampleState(), listener), unix.ENAMETOOLONG},
		"no listener":  {Send(t.Context(), b.path, exampleState(), w), ErrDescriptors},
		"context done": {Send(canceled, b.path, exampleState(), listener), context.Canceled},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// The socket is bound and nobody reads, so that the message does not fit.
func TestSendStopsWhenContextIsDone(t *testing.T) {
	requireNoLeak(t)
	path := filepath.Join(shortDir(t), "s")
	server, err := Listen(path, nil, nil)
	must(t, err)
	defer server.Close()
	state := exampleState()
	state.Metadata = strings.Repeat("x", MaxMessage-1024)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	listener := newListener(t)
	go func() { done <- Send(ctx, path, state, listener) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
