package daemon

import (
	"context"
	"errors"
	"maps"
	"os"
	"time"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/intake/lxc"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/keep"
	"github.com/intercede/intercede/internal/notify"
	"github.com/rs/zerolog"
)

// leftMonitor is a connection of an LXC monitor that a daemon before this one has left.
type leftMonitor struct {
	number     uint64
	connection *os.File
	call       *journal.Slot // that it has not answered; nil: none
}

// takeMonitors takes the connections of LXC's monitors, with their calls, from what is left.
func (r *Remains) takeMonitors() []*leftMonitor {
	found := map[uint64]*leftMonitor{}
	r.takeFiles(func(kept keep.Descriptor) bool {
		n, ok := broker.ParseName(kept.Name, monitorPrefix, 1)
		if ok {
			found[n[0]] = &leftMonitor{number: n[0], connection: kept.File}
		}
		return ok
	})
	var others []*journal.Slot
	for _, call := range r.calls {
		if m := found[call.Source()]; m != nil {
			m.call = call
		} else {
			others = append(others, call)
		}
	}
	r.calls = others
	var monitors []*leftMonitor
	for m := range maps.Values(found) {
		monitors = append(monitors, m)
	}
	return monitors
}

// takeFiles removes the files that fn takes.
func (r *Remains) takeFiles(fn func(keep.Descriptor) (taken bool)) {
	var others []keep.Descriptor
	for _, kept := range r.files {
		if !fn(kept) {
			others = append(others, kept)
		}
	}
	r.files = others
}

// adoptMonitor goes on with a connection. Its monitor notices nothing, unless its last call may have been answered.
func (s *Server) adoptMonitor(ctx context.Context, c *lxc.Connection, left *leftMonitor) {
	m := &monitor{Connection: c, inbox: s.engine.AdoptInbox(left.number, left.call), server: s}
	var first *lxc.Exchange
	if left.call != nil {
		var err error
		if first, err = m.resume(left.call); err != nil {
			// The monitor is told at the end of the connection. Nothing more comes over that: LXC connects again for a
			// further call, but one may have come already.
			s.peerEvent(zerolog.DebugLevel, m.Peer).Err(err).Msg("an LXC monitor has to connect again")
			m.Stop()
		}
	}
	s.serveConnection(ctx, m, first)
}

// unknownAge is how long ago a packet is taken to have come where the daemon ended before it noted that.
const unknownAge = 15 * time.Second

// resume goes on with a call that was received before. It returns the exchange of one that is still to be handled, if
// the monitor waits for an answer and the caller too. One that was decided is answered, once.
func (m *monitor) resume(call *journal.Slot) (*lxc.Exchange, error) {
	waits, err := m.Waits()
	if err != nil || !waits {
		return nil, err
	}
	listener, err := notify.Find(int(m.Peer.Pid), call.ID())
	if errors.Is(err, notify.ErrGone) {
		return nil, m.Release(call.Bytes(), call.ID())
	}
	if err != nil {
		return nil, err
	}
	received := call.Since()
	if received.IsZero() {
		received = time.Now().Add(-unknownAge)
	}
	x, err := m.Resume(call.Bytes(), listener, received)
	if err != nil || !broker.SendDecided(x, call) {
		return x, err
	}
	return nil, nil
}
