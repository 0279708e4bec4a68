package sched

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// config are the plugin's settings: what the operator lets containers have.
type config struct {
	Policies    []policy `json:"policies" help:"scheduling policies that may be set: other, batch, idle, fifo, rr, deadline" pattern:"other|batch|idle|fifo|rr|deadline" example:"fifo"`
	MaxPriority uint32   `json:"max_priority" help:"the highest priority that may be set with fifo and rr" min:"1" max:"99"`
	MinNice     int32    `json:"min_nice" help:"the lowest nice value that may be set, by setpriority too; 0: none lower than a thread has" min:"-20" max:"19"`
}

// minNiceKey is the setting that switches setpriority(2) on.
const minNiceKey = "min_nice"

var defaults = config{
	Policies:    []policy{unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE, unix.SCHED_FIFO, unix.SCHED_RR},
	MaxPriority: 99,
}

// policy is a SCHED_* number, whose text is its name in sched(7), in lower case.
type policy uint32

var policyNames = map[string]policy{
	"other":    unix.SCHED_NORMAL,
	"batch":    unix.SCHED_BATCH,
	"idle":     unix.SCHED_IDLE,
	"fifo":     unix.SCHED_FIFO,
	"rr":       unix.SCHED_RR,
	"deadline": unix.SCHED_DEADLINE,
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *policy) UnmarshalText(text []byte) error {
	known := false
	if *p, known = policyNames[string(text)]; !known {
		return fmt.Errorf("policy %q: want other, batch, idle, fifo, rr or deadline", text)
	}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p policy) MarshalText() ([]byte, error) {
	for name, number := range policyNames {
		if number == p {
			return []byte(name), nil
		}
	}
	return nil, fmt.Errorf("policy %d has no name", p)
}
