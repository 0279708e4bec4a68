package oci

import (
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// An arrival beyond a user's pace waits. When the server ends, it is handled at once: its container has a filter already.
func TestPace(t *testing.T) {
	requireNoLeak(t)
	b := startBroker(t, func(l *limits) { l.root = pace{burst: 2, second: 1. / 3600} })
	for range 3 {
		send(t, b.dial(t), message(t, specs.SeccompFdName), newListener(t))
	}
	for range 2 {
		if a := b.nextArrival(t); a.Waited != 0 {
			t.Errorf("one of two arrivals waited for %v", a.Waited)
		}
	}
	select {
	case e := <-b.events:
		t.Fatalf("the third of two arrivals an hour came at once: %+v", e)
	case <-time.After(100 * time.Millisecond):
	}
	b.cancel()
	third := b.nextArrival(t)
	requireOurs(t, third)
	if third.Waited == 0 {
		t.Error("it is not known that the third waited")
	}
}

// A user's arrivals take no turns of another one, and users who have all of theirs are forgotten.
func TestPaces(t *testing.T) {
	p, of := &paces{}, pace{burst: 3, second: 1. / 3600}
	for uid := range uint32(10 * maxPaces) {
		if delay := p.reserve(uid, of); delay != 0 {
			t.Fatalf("the first arrival of user %d waits for %v", uid, delay)
		}
		if uid != 1 {
			p.users[uid].SetBurst(2) // it has all its turns
		}
	}
	if len(p.users) > maxPaces {
		t.Errorf("%d users are known, want at most %d", len(p.users), maxPaces)
	}
	p.reserve(1, of)
	p.reserve(1, of)
	if delay := p.reserve(1, of); delay < time.Minute {
		t.Errorf("the fourth of three arrivals of an hour waits for %v", delay)
	}
}
