package target

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"
)

// newTurns makes a keeper whose turns are interval apart, with company.
func newTurns(interval time.Duration) (*turnKeeper, time.Time) {
	k := &turnKeeper{began: time.Now(), next: map[NamespaceID]time.Time{}}
	k.forked(interval / turnFactor)
	k.alternate(k.began)
	return k, k.began
}

// TestTurns has a container wait for what it has not saved, and no other.
func TestTurns(t *testing.T) {
	t.Parallel()
	const interval = time.Millisecond
	k, now := newTurns(interval)
	busy, other := NamespaceID{Ino: 1}, NamespaceID{Ino: 2}
	for i := range turnsSaved {
		if wait := k.take(busy, now); wait > 0 {
			t.Fatalf("turn %d is to wait %v", i, wait)
		}
	}
	for i := range 3 {
		if wait := k.take(busy, now); wait != time.Duration(i+1)*interval {
			t.Errorf("turn %d after those that were saved is to wait %v", i, wait)
		}
	}
	if wait := k.take(other, now); wait > 0 {
		t.Errorf("another container is to wait %v", wait)
	}
	if wait := k.take(busy, now.Add(companyTime)); wait > 0 {
		t.Errorf("without company the container is to wait %v", wait)
	}
	later := now.Add(companyTime / 2)
	k.take(other, later)
	if len(k.next) != 1 {
		t.Errorf("%d containers are kept", len(k.next))
	}
}

// TestTurnsBound has containers ask for turns at random: in no time has one more than its share, and none waits longer
// than those of its calls that came before take.
func TestTurnsBound(t *testing.T) {
	t.Parallel()
	const interval = time.Millisecond
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		k, now := newTurns(interval)
		given := map[NamespaceID][]time.Time{}
		for range 500 {
			now = now.Add(time.Duration(random.IntN(int(interval))))
			k.alternate(now)
			container := NamespaceID{Ino: random.Uint64N(3)}
			at := now.Add(max(k.take(container, now), 0))
			given[container] = append(given[container], at)
		}
		for container, at := range given {
			for i := range at {
				for j := i; j < len(at); j++ {
					if most := turnsSaved + int(at[j].Sub(at[i])/interval); j-i+1 > most {
						t.Fatalf("seed %d: container %d has %d turns within %v", seed, container.Ino, j-i+1, at[j].Sub(at[i]))
					}
				}
			}
		}
	}
}

// TestTurnsEnd has a call that waits for its turn end with its context, and a fork that takes long cost no more than
// maxTurn.
func TestTurnsEnd(t *testing.T) {
	t.Parallel()
	k, _ := newTurns(time.Hour)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	for err == nil { // the turns that were saved, and those for which it took too long that company had come
		k.alternate(time.Now())
		err = k.await(cancelled, NamespaceID{})
	}
	if err != context.Canceled {
		t.Errorf("the wait ended with %v", err)
	}
	if wait := k.take(NamespaceID{}, time.Now()); wait > 2*maxTurn {
		t.Errorf("the next turn is in %v", wait)
	}
}
