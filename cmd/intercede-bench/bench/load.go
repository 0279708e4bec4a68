package bench

import (
	"context"
	"time"

	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"github.com/intercede/intercede/core/run"
)

const (
	// slowCalls of a second each are under way while quick ones are measured.
	slowCalls = 64
	// blockedCalls are measured then: fewer than a second has.
	blockedCalls = 2000
	// settle is how long slow calls have to begin.
	settle = 300 * time.Millisecond
	// rareCalls are measured of each row, each after a rarePause in which the processors may rest and forget.
	rareCalls = 30
	rarePause = 20 * time.Millisecond
	// throughputTime is how long calls are counted for one figure.
	throughputTime = 4000 * time.Millisecond
)

// measureRare measures calls that come now and then, as most do.
func (b *bench) measureRare(ctx context.Context, report *Report) error {
	for i, r := range b.rows {
		var err error
		if report.Rows[i].Rare, err = r.medianOf(ctx, min(rareCalls, b.options.Calls), rarePause); err != nil {
			return err
		}
	}
	return nil
}

// startNoopCaller starts a container of the plugin noop. The caller closes it.
func (b *bench) startNoopCaller(ctx context.Context) (*caller.Caller, error) {
	return startCaller(ctx, run.Options{Args: b.options.Caller}, noopCalls, b.noop)
}

// measureBlocked measures quick calls beside slow ones, in the same container and in another.
func (b *bench) measureBlocked(ctx context.Context, report *Report) error {
	if b.noop == nil {
		return nil
	}
	same, err := b.startNoopCaller(ctx)
	if err != nil {
		return err
	}
	defer same.Close()
	other, err := b.startNoopCaller(ctx)
	if err != nil {
		return err
	}
	defer other.Close()
	report.Blocked = &Blocked{SlowCalls: slowCalls}
	if report.Blocked.Alone, err = quick(ctx, other); err != nil {
		return err
	}
	if err := same.KeepMaking(ctx, getpgid, slowCalls); err != nil {
		return err
	}
	time.Sleep(settle)
	if report.Blocked.Same, err = quick(ctx, same); err != nil {
		return err
	}
	report.Blocked.Other, err = quick(ctx, other)
	return err
}

// quick is the p50 of a call that is answered at once, in µs.
func quick(ctx context.Context, c *caller.Caller) (float64, error) {
	if _, _, err := c.Measure(ctx, getppid, warmUpCalls, 0); err != nil {
		return 0, err
	}
	durations, _, err := c.Measure(ctx, getppid, blockedCalls, 0)
	return caller.Microseconds(durations.Percentile(50)), err
}

// measureThroughput counts the calls that are answered in a second, of more and more callers in one container, and of
// several containers with one each.
func (b *bench) measureThroughput(ctx context.Context, report *Report) error {
	if b.noop == nil {
		return nil
	}
	for _, load := range []Throughput{{1, 1, 0}, {1, 2, 0}, {1, 4, 0}, {1, 8, 0}, {1, 64, 0}, {8, 1, 0}, {32, 1, 0}} {
		rate, err := b.throughput(ctx, load.Containers, load.Callers)
		if err != nil {
			return err
		}
		load.PerSecond = rate
		report.Throughput = append(report.Throughput, load)
	}
	return nil
}

// throughput is that of so many containers with so many callers each.
func (b *bench) throughput(ctx context.Context, containers, callers int) (float64, error) {
	rates := make(chan float64, containers)
	failures := make(chan error, containers)
	var started []*caller.Caller
	defer func() {
		for _, c := range started {
			c.Close()
		}
	}()
	for range containers {
		c, err := b.startNoopCaller(ctx)
		if err != nil {
			return 0, err
		}
		started = append(started, c)
	}
	for _, c := range started {
		go func() {
			rate, err := c.Rate(ctx, getppid, callers, throughputTime)
			failures <- err
			rates <- rate
		}()
	}
	total := 0.0
	var failed error
	for range started {
		if err := <-failures; err != nil {
			failed = err
		}
		total += <-rates
	}
	return total, failed
}
