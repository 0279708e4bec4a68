package figures

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/core/audit"
)

func TestClasses(t *testing.T) {
	for class := range classes {
		low := lowerBound(class)
		if got := classOf(low); got != class {
			t.Errorf("%v is in class %d, want %d", low, got, class)
		}
		if class > 0 && classOf(low-time.Microsecond) != class-1 {
			t.Errorf("%v is in class %d, want %d", low-time.Microsecond, classOf(low-time.Microsecond), class-1)
		}
	}
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, shortest - 1} {
		if classOf(d) != 0 {
			t.Errorf("%v is in class %d", d, classOf(d))
		}
	}
	if last := classOf(math.MaxInt64); last != classes-1 {
		t.Errorf("the longest duration is in class %d", last)
	}
	if bounds := Bounds(); len(bounds) != classes-1 || !slices.IsSorted(bounds) || bounds[0] != 4e-6 {
		t.Errorf("bounds %v", bounds)
	}
}

func TestCounter(t *testing.T) {
	var c Counter
	for _, o := range []audit.Outcome{
		{Kind: audit.Return}, {Kind: audit.Return}, {Kind: audit.Errno, Err: errors.New("it failed")}, {Kind: audit.Continue},
		{Kind: audit.AddFD}, {Kind: audit.Gone}, {Kind: audit.Again},
	} {
		c.Count(&o)
	}
	c.CountNext()
	got := c.Calls()
	if want := (Calls{2, 1, 1, 1, 1, 1, 1, 1}); got != want || got.All() != 8 {
		t.Errorf("%+v (%d calls), want %+v", got, got.All(), want)
	}
	if later := (Calls{Return: 5, Next: 1}).Since(Calls{Return: 2, Next: 4}); later != (Calls{Return: 3, Next: 1}) {
		t.Errorf("between: %+v", later)
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	if d := h.Durations(); len(d) != 0 || d.Quantile(0.5) != 0 {
		t.Errorf("without calls: %v, %v", d, d.Quantile(0.5))
	}
	for i := range 1000 {
		h.Observe(time.Duration(i) * 100 * time.Microsecond) // evenly up to 100 ms
	}
	before := h.Durations()
	for q, want := range map[float64]time.Duration{0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond, 0.1: 10 * time.Millisecond} {
		got := before.Quantile(q)
		if ratio := float64(got) / float64(want); ratio < 0.8 || ratio > 1.2 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	h.Observe(20 * time.Microsecond)
	h.Observe(time.Hour)
	between := h.Durations().Since(before)
	if got := between.Quantile(0.25); got < 16*time.Microsecond || got > 24*time.Microsecond {
		t.Errorf("the shorter one of two is %v", got)
	}
	if got := between.Quantile(1); got != lowerBound(classes-1) {
		t.Errorf("the longer one of two is %v", got)
	}
	if h.Observe(0); h.Durations().Since(before)[0] != 1 || before.Since(nil).Quantile(1) == 0 {
		t.Error("durations are lost")
	}
}

// Counts are made at the first use, by whoever comes first, and none is lost.
func TestConcurrently(t *testing.T) {
	for range 200 {
		var c Counter
		var h Histogram
		var done sync.WaitGroup
		for range 8 {
			done.Go(func() {
				c.Count(&audit.Outcome{Kind: audit.Errno})
				h.Observe(time.Millisecond)
			})
		}
		done.Wait()
		if c.Calls().Errno != 8 || h.Durations()[classOf(time.Millisecond)] != 8 {
			t.Fatalf("%+v, %v", c.Calls(), h.Durations())
		}
	}
}
