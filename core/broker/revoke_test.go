package broker

import (
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
)

// A container from which its plugin was taken gets the failure verdict, and others keep the plugin.
func TestRevoke(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c, other := testcaller.Start(t, 0), testcaller.Start(t, 0)
	b.attachCaller(t, c, "taken")
	b.attachCaller(t, other, "other")
	want(t, ask(t, c, testplugin.Keep, 7, 2), 0, 0)
	for _, no := range [][2]string{{"none", ""}, {"", ""}, {"taken", "nonesuch"}} {
		if _, err := b.Revoke(no[0], no[1]); !errors.Is(err, ErrNothingRevoked) {
			t.Errorf("%q: %v", no, err)
		}
	}
	revoked, err := b.Revoke("tak", "trial_errno")
	if err != nil || len(revoked) != 1 || revoked[0].Container != "taken" || revoked[0].Verdict != "EIO" ||
		!slices.Equal(revoked[0].Kept, []string{"7: 0x0000"}) {
		t.Fatalf("%+v, %v", revoked, err)
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
	want(t, ask(t, other, testplugin.Return, 1), 1, 0)
	if _, err := b.Revoke("taken", ""); !errors.Is(err, ErrNothingRevoked) {
		t.Errorf("once more: %v", err)
	}
	for _, s := range b.Status() {
		if s.ID == "taken" && (len(s.Unserved) != 1 || s.Failures != 0) || s.ID == "other" && len(s.Unserved) != 0 {
			t.Errorf("status %+v", s)
		}
	}
}

// A call under way is let end, and the plugin has no other when Revoke returns. A caller whose calls wait meanwhile
// misses none.
func TestRevokeWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	id := b.Status()[0].ID
	held := begin(c, testplugin.Hold)
	h := b.gate.next(t)
	var done atomic.Bool
	over := make(chan error)
	go func() {
		_, err := b.Revoke(id, "")
		done.Store(true)
		over <- err
	}()
	eventually(t, "the container waits", func() bool {
		a := b.attachmentsOf(func(string) bool { return true })[0]
		a.admission.mu.Lock()
		defer a.admission.mu.Unlock()
		return a.admission.held
	})
	later := begin(c, testplugin.Return, 1)
	if done.Load() {
		t.Error("it does not wait for the call under way")
	}
	h.open()
	if r := <-held; r.Errno != 0 {
		t.Errorf("the call under way: %+v", r)
	}
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	want(t, <-later, 0, syscall.EIO)
}

// While a container calls as fast as it can, each of its calls gets the plugin's answer or the verdict, and none after
// Revoke the plugin's.
func TestRevokeUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	id := b.Status()[0].ID
	var returned atomic.Bool
	over := make(chan error)
	for i := range 200 {
		if i == 100 {
			go func() {
				_, err := b.Revoke(id, "")
				returned.Store(true)
				over <- err
			}()
		}
		after := returned.Load()
		switch r := ask(t, c, testplugin.Return, 1); {
		case r.Errno == 0 && r.Value == 1 && !after:
		case r.Errno == syscall.EIO && i >= 100:
		default:
			t.Fatalf("call %d, after Revoke: %v: %+v", i, after, r)
		}
	}
	if err := <-over; err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
}

// What was taken stays taken when another broker goes on.
func TestRevokeOutlivesTheBroker(t *testing.T) {
	l := newLineage(t, options{plugins: []string{"trial_errno"}})
	l.next(t)
	c := l.attach(t)
	want(t, ask(t, c, testplugin.Return, 42), 42, 0)
	if _, err := l.Revoke(l.Broker.Status()[0].ID, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l.next(t)
		want(t, ask(t, c, testplugin.Return, 42), 0, syscall.EIO)
	}
}
