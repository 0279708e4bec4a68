package broker

import (
	"math/rand/v2"
	"testing"
	"time"
)

// paced is a listener of which is known whether it is armed.
type paced struct{ armed bool }

func (l *paced) Arm() error {
	l.armed = true
	return nil
}

// newPaced makes an admission whose pacer never looks by itself.
func newPaced(most, quick int) *admission {
	p := &pacer{watchdog: &watchdog{posts: map[*post]struct{}{}}, processors: quick, paced: []*admission{nil}}
	return newAdmission(Limits{MaxInflight: most}, 100, p)
}

// call has a call of an armed listener come.
func (l *paced) call(t *testing.T, a *admission) {
	t.Helper()
	if l.armed = false; !a.enter(l) {
		t.Fatal("the call may not enter")
	}
	if err := a.next(l); err != nil {
		t.Fatal(err)
	}
}

// TestPace has calls of a listener wait for the quick ones, and not for the slow ones.
func TestPace(t *testing.T) {
	t.Parallel()
	a, l := newPaced(4, 2), &paced{}
	expect := func(armed bool, after string) {
		t.Helper()
		if l.armed != armed {
			t.Fatalf("after %s it is %t that the listener is armed", after, l.armed)
		}
	}
	l.call(t, a)
	expect(true, "one call")
	l.call(t, a)
	expect(false, "two")
	a.goOn()
	expect(false, "a look that finds no slow one")
	a.leave(false)
	expect(true, "the end of one")
	l.call(t, a)
	a.slowDown()
	expect(false, "two, before the look")
	a.goOn()
	expect(true, "a look that finds a slow one")
	l.call(t, a)
	expect(false, "two beside the slow one")
	a.slowDown()
	a.slowDown()
	a.goOn()
	l.call(t, a)
	expect(false, "four, which are all that there may be")
	a.leave(true)
	expect(true, "the end of a slow one")
}

// TestPaceLosesNone has listeners' calls come, become slow and leave at random: in the end all listeners are armed.
func TestPaceLosesNone(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 0))
		a := newPaced(1+random.IntN(6), 1+random.IntN(3))
		listeners := make([]*paced, 1+random.IntN(8))
		for i := range listeners {
			listeners[i] = &paced{armed: true}
		}
		var calls []bool // whether they are slow
		kept := 0
		for range 200 {
			switch l := listeners[random.IntN(len(listeners))]; random.IntN(6) {
			case 0, 1:
				if l.armed {
					l.call(t, a)
					calls = append(calls, false)
				}
			case 2:
				if len(calls) > 0 {
					a.leave(calls[0])
					calls = calls[1:]
				}
			case 3:
				if i := len(calls) - 1; i >= 0 && !calls[i] {
					calls[i] = true
					a.slowDown()
				}
			case 4:
				a.goOn()
			case 5:
				if kept > 0 {
					a.Returned()
					kept--
				} else if len(calls) > 0 {
					a.Kept()
					kept++
				}
			}
		}
		for _, slow := range calls {
			a.leave(slow)
		}
		for i, l := range listeners {
			if !l.armed {
				t.Fatalf("seed %d: listener %d of %d is not armed, with no call left", seed, i, len(listeners))
			}
		}
	}
}

// TestMarkSlow counts a call as slow once, and not any more when it has left.
func TestMarkSlow(t *testing.T) {
	t.Parallel()
	a := newPaced(4, 2)
	p := &post{}
	w := &watchdog{posts: map[*post]struct{}{p: {}}}
	began := time.Now()
	c := &call{attachment: &attachment{admission: a}, began: began}
	p.open(c, nil)
	for after, want := range map[time.Duration]int{0: 0, slowAfter - 1: 0} {
		if w.markSlow(began.Add(after)); a.slow != want {
			t.Errorf("after %v there are %d slow calls", after, a.slow)
		}
	}
	w.markSlow(began.Add(slowAfter))
	w.markSlow(began.Add(2 * slowAfter))
	if a.slow != 1 {
		t.Errorf("there are %d slow calls", a.slow)
	}
	if !p.takeSlow() || p.takeSlow() {
		t.Error("the call was not slow, or stays slow")
	}
}
