package sysinfo

import (
	"math"
	"testing"
	"time"
)

func TestLoadAverage(t *testing.T) {
	now := time.Duration(0)
	l := &loadAverage{}
	after := func(elapsed time.Duration, active int) (got [3]float64) {
		now += elapsed
		l.add(now, active)
		for i, fixed := range l.fixed() {
			got[i] = float64(fixed) / (1 << loadShift)
		}
		return got
	}

	if got := l.fixed(); got != [3]uint64{} {
		t.Errorf("at once: %v, want nothing", got)
	}
	got := after(time.Minute, 2)
	for i, minutes := range []float64{1, 5, 15} {
		if want := 2 * (1 - math.Exp(-1/minutes)); math.Abs(got[i]-want) > 1e-4 {
			t.Errorf("a minute with 2 tasks: average %d is %f, want %f", i, got[i], want)
		}
	}
	if got := after(time.Hour, 0); got[0] > 1e-4 || got[2] > 0.1 {
		t.Errorf("an idle hour: %v", got)
	}
	if got := after(24*time.Hour, 3); math.Abs(got[0]-3) > 1e-4 || math.Abs(got[2]-3) > 1e-4 {
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
