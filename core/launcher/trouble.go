package launcher

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// maxHung is how many calls of a container may hang in a plugin beyond their deadlines: then its calls fail at once
	// until one of them is back.
	maxHung = 4
	// streamKept is how long a call over gRPC that missed its deadline counts as one that hangs: nothing tells when
	// it is back.
	streamKept = time.Minute
	// deathDelay is how long after the end of its sockets a process may be found dead.
	deathDelay = 200 * time.Millisecond
)

// ErrQuarantined means that the plugin is not asked, because the container has harmed it.
var ErrQuarantined = errors.New("the container is quarantined")

// Quarantine is why a plugin is not asked for calls of a container.
type Quarantine struct {
	Reason string
	Since  time.Time
	Until  time.Time // zero: until what Reason says is over
}

// Counter counts the calls of a container that were given up while a thread of the plugin may still be at them.
type Counter interface {
	Kept()
	Returned() // of one of them the thread has come back
}

// trouble is what a container does to a plugin. Most do nothing, and have none.
type trouble struct {
	session *Session

	mu        sync.Mutex
	closed    bool
	hung      int // calls
	hungSince time.Time
	isolation
}

// troubles returns the session's trouble, which it makes.
func (s *Session) troubles() *trouble {
	if t := s.trouble.Load(); t != nil {
		return t
	}
	s.trouble.CompareAndSwap(nil, &trouble{session: s})
	return s.trouble.Load()
}

func (q *Quarantine) err() error { return fmt.Errorf("%w: %s", ErrQuarantined, q.Reason) }

// check returns an error if the plugin must not be asked.
func (s *Session) check() error {
	for _, q := range s.Quarantines() {
		return q.err()
	}
	return nil
}

func (s *Session) log() *zerolog.Logger {
	log := s.plugin.log.With().Str("container", s.container.GetId()).Logger()
	return &log
}

// Quarantines lists why the plugin is not asked.
func (s *Session) Quarantines() (list []Quarantine) {
	t := s.trouble.Load()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.hung >= maxHung {
		reason := fmt.Sprintf("%d calls hang in the plugin beyond their deadlines: a filesystem of the container may not answer", t.hung)
		list = append(list, Quarantine{Reason: reason, Since: t.hungSince})
	}
	if t.quarantine != nil {
		list = append(list, *t.quarantine)
	}
	return list
}

// keptCall is a call that was given up while a thread of the plugin may still be at it.
type keptCall struct {
	timer *time.Timer
	hangs bool // the deadline is over, and it counts in trouble.hung
	over  bool
}

// keep counts a call that was given up. It hangs if its thread is not back at the deadline.
func (s *Session) keep(run *process, deadline time.Time) (back func()) {
	s.counter.Kept()
	t, k := s.troubles(), &keptCall{}
	k.timer = time.AfterFunc(time.Until(deadline), func() { t.hang(k) })
	return func() {
		k.timer.Stop()
		t.endHang(k)
		s.counter.Returned()
		s.blame(run)
	}
}

// keepStream is keep for a call over gRPC that missed its deadline.
func (s *Session) keepStream(run *process) {
	defer s.keep(run, time.Now())()
	select {
	case <-run.Dead():
	case <-time.After(streamKept):
	}
}

// Keep implements lane.Keeper.
func (a *attempt) Keep(deadline time.Time) (back func()) { return a.session.keep(a.process, deadline) }

func (t *trouble) hang(k *keptCall) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.over {
		return
	}
	k.hangs = true
	if t.hung++; t.hung == maxHung {
		t.hungSince = time.Now()
		t.session.log().Warn().Int("hung", t.hung).Msg("quarantined: calls of the container hang in the plugin, further ones get the failure verdict")
	}
}

func (t *trouble) endHang(k *keptCall) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.over = true
	if !k.hangs {
		return
	}
	if t.hung--; t.hung == maxHung-1 && !t.closed {
		t.session.log().Info().Int("hung", t.hung).Msg("the quarantine is over: fewer calls of the container hang in the plugin")
	}
}
