package main

import (
	"math"
	"testing"
	"time"
)

func TestLoadAverage(t *testing.T) {
	now, samples := time.Duration(0), 0
	l := newLoadAverage(now)
	update := func(active int) [3]float64 {
		fixed := l.update(now, func() (int, time.Duration) { samples++; return active, 0 })
		return [3]float64{float64(fixed[0]) / (1 << loadShift), float64(fixed[1]) / (1 << loadShift), float64(fixed[2]) / (1 << loadShift)}
	}

	if got := update(9); got != [3]float64{} || samples != 0 {
		t.Errorf("at once: %v after %d samples, want nothing", got, samples)
	}
	now += time.Minute
	got := update(2)
	for i, minutes := range []float64{1, 5, 15} {
		if want := 2 * (1 - math.Exp(-1/minutes)); math.Abs(got[i]-want) > 1e-4 {
			t.Errorf("a minute with 2 tasks: average %d is %f, want %f", i, got[i], want)
		}
	}
	now += loadInterval - 1
	if again := update(100); again != got || samples != 1 {
		t.Errorf("a sample was taken after less than %v", loadInterval)
	}
	now += time.Hour
	if got := update(0); got[0] > 1e-4 || got[2] > 0.1 {
		t.Errorf("an idle hour: %v", got)
	}
	now += 24 * time.Hour
	if got := update(3); math.Abs(got[0]-3) > 1e-4 || math.Abs(got[2]-3) > 1e-4 {
		t.Errorf("a day with 3 tasks: %v", got)
	}
}

// TestKernelsDecay compares one step with the kernel's constants EXP_1, EXP_5, EXP_15 (linux/sched/loadavg.h).
func TestKernelsDecay(t *testing.T) {
	for i, exp := range []float64{1884, 2014, 2037} {
		if got, want := decay(1, 0, loadInterval, loadPeriods[i]), exp/2048; math.Abs(got-want) > 1.0/2048 {
			t.Errorf("average %d: %f, the kernel's %f", i, got, want)
		}
	}
}

// TestCostlySample has a sample cost a second: the next one is due after twenty.
func TestCostlySample(t *testing.T) {
	samples := 0
	l := newLoadAverage(0)
	for _, c := range []struct {
		now  time.Duration
		want int
	}{{10 * time.Second, 1}, {29 * time.Second, 1}, {30 * time.Second, 2}} {
		l.update(c.now, func() (int, time.Duration) { samples++; return 1, time.Second })
		if samples != c.want {
			t.Errorf("at %v: %d samples, want %d", c.now, samples, c.want)
		}
	}
}
