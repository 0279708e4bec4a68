package loglimit

import (
	"testing"
	"testing/synctest"
	"time"
)

// taken gives how many of n records of so many units are let through, and how many are said to be suppressed before
// them.
func taken(l *Limit, n, units int) (through, suppressed int) {
	for range n {
		if before, ok := l.Take(units); ok {
			through++
			suppressed += before
		}
	}
	return through, suppressed
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10)
		for i, test := range []struct {
			after           time.Duration
			n, units        int
			through, before int
		}{
			{0, 100, 1, 10, 0},
			{Period - 1, 5, 1, 0, 0},
			{1, 1, 1, 1, 95},
			{0, 9, 1, 9, 0},
			{Period, 100, 3, 3, 0},
			{Period, 3, 1000, 1, 97},
			{Period, 1, 1, 1, 2},
		} {
			time.Sleep(test.after)
			if through, before := taken(l, test.n, test.units); through != test.through || before != test.before {
				t.Errorf("step %d: %d through after %d suppressed, want %d after %d", i, through, before, test.through, test.before)
			}
		}
	})
}

func TestLimitAllocatesNothing(t *testing.T) {
	l := New(1)
	if n := testing.AllocsPerRun(1000, func() { l.Take(1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMiss counts what was let through and not logged all the same.
func TestMiss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(2)
		taken(l, 5, 1)
		l.Miss(4)
		time.Sleep(Period)
		if suppressed, ok := l.Take(1); !ok || suppressed != 7 {
			t.Errorf("%d suppressed, %v; want 7", suppressed, ok)
		}
	})
}
