package sched

import (
	"maps"
	"slices"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestRefusedSettings(t *testing.T) {
	h := sdktest.Serve(t, plugin)
	for name, settings := range map[string]map[string]any{
		"unknown key":       {"policy": []string{"fifo"}},
		"no list":           {"policies": "fifo"},
		"unknown policy":    {"policies": []string{"fifo", "ext"}},
		"capitals":          {"policies": []string{"FIFO"}},
		"priority 0":        {"max_priority": 0},
		"priority 100":      {"max_priority": 100},
		"priority as text":  {"max_priority": "50"},
		"nice -21":          {"min_nice": -21},
		"nice 20":           {"min_nice": 20},
		"nice with a point": {"min_nice": -1.5},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, settings := range map[string]map[string]any{
		"no policies":  {"policies": []string{}},
		"all policies": {"policies": slices.Collect(maps.Keys(policyNames))},
		"ends":         {"max_priority": 1, "min_nice": -20},
		"other ends":   {"max_priority": 99, "min_nice": 19},
	} {
		if err := h.Refusal(sdk.Container{ID: "c"}, settings); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAllow(t *testing.T) {
	l := &config{Policies: []policy{unix.SCHED_NORMAL, unix.SCHED_IDLE, unix.SCHED_FIFO}, MaxPriority: 50}
	lower := &config{Policies: l.Policies, MinNice: -5}
	scheduler := func(policy, priority uint32) change {
		return change{call: setScheduler, attr: unix.SchedAttr{Policy: policy, Priority: priority}}
	}
	attr := func(policy uint32, nice int32) change {
		return change{call: setAttr, attr: unix.SchedAttr{Policy: policy, Nice: nice}}
	}
	priority := func(nice int32) change { return change{call: setPriority, attr: unix.SchedAttr{Nice: nice}} }
	for name, test := range map[string]struct {
		limits *config
		change change
		now    state
		want   bool
	}{
		"listed":                       {l, scheduler(unix.SCHED_NORMAL, 0), state{}, true},
		"not listed":                   {l, scheduler(unix.SCHED_BATCH, 0), state{}, false},
		"no policy":                    {l, scheduler(4, 0), state{}, false},
		"highest priority":             {l, scheduler(unix.SCHED_FIFO, 50), state{}, true},
		"priority too high":            {l, scheduler(unix.SCHED_FIFO, 51), state{}, false},
		"negative priority":            {l, scheduler(unix.SCHED_FIFO, 1<<32-1), state{}, false},
		"other rt policy":              {l, scheduler(unix.SCHED_RR, 1), state{}, false},
		"policy alone keeps nice":      {l, scheduler(unix.SCHED_NORMAL, 0), state{nice: 5}, true},
		"attr, same nice":              {l, attr(unix.SCHED_NORMAL, 5), state{nice: 5}, true},
		"attr, higher nice":            {l, attr(unix.SCHED_NORMAL, 6), state{nice: 5}, true},
		"attr, lower nice":             {l, attr(unix.SCHED_NORMAL, 4), state{nice: 5}, false},
		"attr, nice lent":              {lower, attr(unix.SCHED_NORMAL, -5), state{}, true},
		"attr, nice too low":           {lower, attr(unix.SCHED_NORMAL, -6), state{}, false},
		"attr, nice too low, but own":  {lower, attr(unix.SCHED_NORMAL, -6), state{nice: -6}, true},
		"attr, nice lent, not listed":  {lower, attr(unix.SCHED_BATCH, -5), state{}, false},
		"attr, nice of idle is unused": {l, attr(unix.SCHED_IDLE, -20), state{}, true},
		"attr, nice of rt is unused":   {l, attr(unix.SCHED_FIFO, -20), state{}, true},
		"setpriority off":              {l, priority(-1), state{}, false},
		"setpriority off, higher":      {l, priority(1), state{}, true},
		"setpriority lent":             {lower, priority(-5), state{}, true},
		"setpriority too low":          {lower, priority(-6), state{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := test.limits.refuses(test.change, test.now); (got == "") != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
