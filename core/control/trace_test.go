package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/trace"
	"github.com/intercede/intercede/internal/notify"
)

func TestTrace(t *testing.T) {
	hub := &trace.Hub{}
	watch := Watch{Begin: hub.Watch, Containers: func(f trace.Filter) int { return len(f.Container) }}
	path := listen(t, Source{Status: noStatus, Watch: watch})
	show := func(syscall string) {
		hub.Show(&audit.Record{
			Container: &audit.Container{ID: "3f2a", Name: "web"}, Syscall: syscall, Notification: &notify.Notification{TID: 9},
			Outcome: audit.Outcome{Kind: audit.Continue, Reason: audit.Reason{Plugin: "mknod", Code: "no_capability", Text: "a\nb"}},
		})
	}
	enough := errors.New("enough")
	containers, seen := -1, 0
	err := Trace(t.Context(), path, trace.Filter{Container: "web", Syscall: "mknod"}, func(n int) {
		containers = n
		show("mount")
		show("mknod")
		show("mknod")
	}, func(call TracedCall) error {
		if call.Syscall != "mknod" || call.Reason != "no_capability" || call.Because != "a\nb" ||
			!strings.HasPrefix(call.Line, "[pid 9 arch 0x0] mknod(") {
			t.Errorf("got %+v", call)
		}
		if seen++; seen == 2 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || containers != 3 {
		t.Errorf("%v, %d containers", err, containers)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = Trace(ctx, path, trace.Filter{}, func(int) { cancel() }, func(TracedCall) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an operator who has enough gets %v", err)
	}
}

// TestTraceEnds has the server finish: it does not wait for those who watch.
func TestTraceEnds(t *testing.T) {
	hub := &trace.Hub{}
	path, end := start(t, Source{Status: noStatus, Watch: Watch{Begin: hub.Watch, Containers: func(trace.Filter) int { return 0 }}})
	closed := make(chan error, 1)
	err := Trace(t.Context(), path, trace.Filter{}, func(int) { go func() { closed <- end() }() }, func(TracedCall) error { return nil })
	if err = errors.Join(err, <-closed); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(30 * time.Second); hub.Watched(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("somebody watches still")
		}
	}
}

func TestTraceRefused(t *testing.T) {
	begin := func(trace.Filter) (*trace.Watcher, error) { return nil, errors.New("too many watch") }
	path := listen(t, Source{Status: noStatus, Watch: Watch{Begin: begin}})
	err := Trace(t.Context(), path, trace.Filter{}, func(int) { t.Error("it began") }, func(TracedCall) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "too many watch") {
		t.Errorf("got %v", err)
	}
}

func noStatus() *Status { return &Status{} }
