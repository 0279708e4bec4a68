package main

import (
	"fmt"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// config are the plugin's settings.
type config struct {
	Policies    []string `json:"policies"`
	MaxPriority uint32   `json:"max_priority"`
	MinNice     int32    `json:"min_nice"`
}

// policyNames are those of sched(7), in lower case.
var policyNames = map[string]uint32{
	"other":    unix.SCHED_NORMAL,
	"batch":    unix.SCHED_BATCH,
	"idle":     unix.SCHED_IDLE,
	"fifo":     unix.SCHED_FIFO,
	"rr":       unix.SCHED_RR,
	"deadline": unix.SCHED_DEADLINE,
}

// minNiceKey is the setting that switches setpriority(2) on.
const minNiceKey = "min_nice"

var settings = []sdk.Setting{{
	Key:     "policies",
	Type:    sdk.StringList,
	Default: []string{"other", "batch", "idle", "fifo", "rr"},
	Help:    "scheduling policies that may be set: other, batch, idle, fifo, rr, deadline",
	Pattern: "other|batch|idle|fifo|rr|deadline",
	Example: "fifo",
}, {
	Key:     "max_priority",
	Type:    sdk.Int,
	Default: 99,
	Help:    "the highest priority that may be set with fifo and rr",
	Min:     new(int64(1)),
	Max:     new(int64(99)),
}, {
	Key:     minNiceKey,
	Type:    sdk.Int,
	Default: 0,
	Help:    "the lowest nice value that may be set, by setpriority too; 0: none lower than a thread has",
	Min:     new(int64(-20)),
	Max:     new(int64(19)),
}}

func (c config) limits() (limits, error) {
	l := limits{policies: map[uint32]bool{}, maxPriority: c.MaxPriority, minNice: c.MinNice}
	for _, name := range c.Policies {
		policy, known := policyNames[name]
		if !known {
			return limits{}, fmt.Errorf("policies: %q: want other, batch, idle, fifo, rr or deadline", name)
		}
		l.policies[policy] = true
	}
	return l, nil
}
