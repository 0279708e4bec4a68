package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// config are the plugin's settings.
type config struct {
	Policies    []string `json:"policies"`
	MaxPriority uint32   `json:"max_priority"`
	MinNice     int32    `json:"min_nice"`

	MaxIOPriority string `json:"max_io_priority"`
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

// Settings that switch setpriority(2) and ioprio_set(2) on.
const (
	minNiceKey       = "min_nice"
	maxIOPriorityKey = "max_io_priority"
)

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
}, {
	Key:     maxIOPriorityKey,
	Type:    sdk.String,
	Default: "",
	Help:    `the highest I/O priority that may be set: "be:0" to "be:7" of best effort, "rt:0" to "rt:7" of real time, 0 being the highest; empty: none`,
	Pattern: `|(be|rt):[0-7]`,
	Example: "be:0",
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
	if c.MaxIOPriority != "" {
		class, level, _ := strings.Cut(c.MaxIOPriority, ":")
		number, err := strconv.ParseUint(level, 10, 3)
		if err != nil || class != "be" && class != "rt" {
			return limits{}, fmt.Errorf("max_io_priority: %q: want be:LEVEL or rt:LEVEL, LEVEL from 0 to 7", c.MaxIOPriority)
		}
		l.ioClass, l.ioLevel = map[string]uint32{"be": ioprioClassBE, "rt": ioprioClassRT}[class], uint32(number)
	}
	return l, nil
}
