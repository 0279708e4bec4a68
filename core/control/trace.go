package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/event"
	"github.com/intercede/intercede/core/strace"
	"github.com/intercede/intercede/core/trace"
)

const (
	tracePath = "/v1/trace"
	// knownHeader says how many containers are attached whose calls are wanted.
	knownHeader = "Intercede-Containers"
	// dropInterval is how often an operator is told what was dropped.
	dropInterval = time.Second
)

// TracedCall is one message to who watches.
type TracedCall struct {
	event.Event
	Line string `json:"line,omitempty"` // as strace(1) shows it
}

// Watch is what the broker has for those who watch.
type Watch struct {
	Begin      func(trace.Filter) (*trace.Watcher, error)
	Containers func(trace.Filter) int // that are attached and wanted
}

// answerTrace sends the calls that are wanted, a JSON object on each line, until the operator has enough, or the server
// finishes.
func answerTrace(watch Watch) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		filter := trace.Filter{
			Container: q.Get("container"), Syscall: q.Get("syscall"), Plugin: q.Get("plugin"), Outcome: audit.Kind(q.Get("outcome")),
		}
		watcher, err := watch.Begin(filter)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer watcher.Close()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set(knownHeader, fmt.Sprint(watch.Containers(filter)))
		out := sender{json.NewEncoder(w), http.NewResponseController(w)}
		// At the server's deadline the request would end.
		if errors.Join(out.control.SetReadDeadline(time.Time{}), out.flush()) == nil {
			out.send(r.Context(), watcher)
		}
	}
}

// sender sends messages to an operator.
type sender struct {
	encoder *json.Encoder
	control *http.ResponseController
}

// send sends calls until the context is over, or the operator takes no more.
func (s sender) send(ctx context.Context, watcher *trace.Watcher) {
	ticks := time.NewTicker(dropInterval)
	defer ticks.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case call := <-watcher.Calls:
			err = s.encoder.Encode(TracedCall{event.Of(call.Record, call.At), strace.Of(*call.Record).String()})
		case now := <-ticks.C:
			dropped := watcher.TakeDropped()
			if dropped == 0 {
				continue
			}
			err = s.encoder.Encode(TracedCall{Event: event.Lost(int(dropped), now)})
		}
		if err == nil && len(watcher.Calls) == 0 {
			err = s.flush()
		}
		if err != nil {
			return
		}
	}
}

// flush sends what was encoded. The operator has a time for each message, and not for all of them.
func (s sender) flush() error {
	if err := s.control.SetWriteDeadline(time.Now().Add(peerTimeout)); err != nil {
		return err
	}
	return s.control.Flush()
}

// Trace has the daemon whose admin socket is at path show calls as they happen. begin is called first, with how many
// containers are attached whose calls are wanted; then show with each call, until it returns an error, which Trace
// returns. The error is nil when the daemon has ended.
func Trace(
	ctx context.Context, path string, filter trace.Filter, begin func(containers int), show func(TracedCall) error,
) error {
	query := url.Values{
		"container": {filter.Container}, "syscall": {filter.Syscall},
		"plugin": {filter.Plugin}, "outcome": {string(filter.Outcome)},
	}
	if err := reach(ctx, path); err != nil {
		return fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	response, err := request(ctx, path, http.MethodGet, tracePath+"?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("asking the daemon on %q: %w", path, err)
	}
	defer response.Body.Close()
	containers := 0
	fmt.Sscan(response.Header.Get(knownHeader), &containers)
	begin(containers)
	for decoder := json.NewDecoder(response.Body); ; {
		var call TracedCall
		err := decoder.Decode(&call)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("the calls that the daemon on %q shows: %w", path, err)
		}
		if err := show(call); err != nil {
			return err
		}
	}
}
