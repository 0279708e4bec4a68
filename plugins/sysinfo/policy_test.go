package sysinfo

import (
	"testing"
	"time"
)

func TestLimitMemory(t *testing.T) {
	host := memory{total: 8000, free: 6000, shared: 100}
	for name, c := range map[string]struct {
		usage usage
		want  memory
	}{
		"no limit":                     {usage{limit: unlimited}, host},
		"limit above the host":         {usage{limit: 8001, used: 1}, host},
		"limit equal to the host":      {usage{limit: 8000, used: 1}, host},
		"limit below the host":         {usage{limit: 1000, used: 300, shared: 20}, memory{1000, 700, 20}},
		"more used than the limit":     {usage{limit: 1000, used: 1001}, memory{total: 1000}},
		"everything used":              {usage{limit: 1000, used: 1000}, memory{total: 1000}},
		"statistics above the limit":   {usage{limit: 1000, shared: 2000}, memory{1000, 1000, 1000}},
		"limit of nothing":             {usage{limit: 0, used: 5, shared: 5}, memory{}},
		"limit above what now is free": {usage{limit: 7000, used: 300}, memory{total: 7000, free: 6700}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := limitMemory(host, c.usage); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestLimitSwap(t *testing.T) {
	host := swap{total: 2000, free: 1500}
	for name, c := range map[string]struct {
		host  swap
		usage usage
		want  swap
	}{
		"no limit":             {host, usage{swapLimit: unlimited}, host},
		"limit":                {host, usage{swapLimit: 1000, swapUsed: 400}, swap{1000, 600}},
		"no swap allowed":      {host, usage{swapLimit: 0}, swap{}},
		"more used":            {host, usage{swapLimit: 1000, swapUsed: 1400}, swap{1000, 0}},
		"limit above the host": {host, usage{swapLimit: 4000, swapUsed: 400}, host},
		"host without swap":    {swap{}, usage{swapLimit: 4000}, swap{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := limitSwap(c.host, c.usage); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestUptime(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		now, start, offset time.Duration
		want               uint64
	}{
		"just started":                         {hour, hour, 0, 0},
		"a part of a second counts as one":     {hour + 1, hour, 0, 1},
		"whole seconds":                        {hour + 7*time.Second, hour, 0, 7},
		"clock ticks after now":                {hour, hour + 10*time.Millisecond, 0, 0},
		"namespace ahead":                      {hour + time.Second, hour, 1000 * time.Second, 1001},
		"namespace zeroed at start":            {hour + time.Second, hour, -hour, 1},
		"namespace zeroed before start":        {hour + 5*time.Second, hour, -hour / 2, 5},
		"namespace zeroed after start":         {hour + 5*time.Second, hour, -hour - 3*time.Second, 2},
		"namespace zero in the future":         {hour, hour / 2, -2 * hour, 0},
		"largest offset the kernel would take": {hour, 0, time.Duration(maxOffset) * time.Second, 3600 + uint64(maxOffset)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := uptime(c.now, c.start, c.offset); got != c.want {
				t.Errorf("got %d s, want %d", got, c.want)
			}
		})
	}
}
