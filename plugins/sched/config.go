package sched

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// config are the plugin's settings: what the operator lets containers have.
type config struct {
	Policies    []policy `json:"policies" help:"scheduling policies that may be set: other, batch, idle, fifo, rr, deadline" pattern:"other|batch|idle|fifo|rr|deadline" example:"fifo"`
	MaxPriority uint32   `json:"max_priority" help:"the highest priority that may be set with fifo and rr" min:"1" max:"99"`
	MinNice     int32    `json:"min_nice" help:"the lowest nice value that may be set, by setpriority too; 0: none lower than a thread has" min:"-20" max:"19"`
	// The highest I/O priority that may be set.
	MaxIOPriority ioPriority `json:"max_io_priority" help:"the highest I/O priority that may be set: be:0 to be:7 of best effort, rt:0 to rt:7 of real time, 0 being the highest; empty: none" pattern:"|(be|rt):[0-7]" example:"be:0"`
}

// minNiceKey is the setting that switches setpriority(2) on.
const minNiceKey = "min_nice"

// maxIOPriorityKey is the setting that switches ioprio_set(2) on.
const maxIOPriorityKey = "max_io_priority"

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

// String is its name, or its number.
func (p policy) String() string {
	if name, err := p.MarshalText(); err == nil {
		return string(name)
	}
	return strconv.FormatUint(uint64(p), 10)
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

// ioPriority is a number of ioprio_set(2), whose text is "be:LEVEL" or "rt:LEVEL"; 0, which is none, is the empty one.
type ioPriority uint32

var ioClassNames = map[string]uint32{"be": ioprioClassBE, "rt": ioprioClassRT}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *ioPriority) UnmarshalText(text []byte) error {
	if *p = 0; len(text) == 0 {
		return nil
	}
	name, level, _ := strings.Cut(string(text), ":")
	number, err := strconv.ParseUint(level, 10, 3)
	class, known := ioClassNames[name]
	if err != nil || !known {
		return fmt.Errorf("I/O priority %q: want be:LEVEL or rt:LEVEL, LEVEL from 0 to 7", text)
	}
	*p = ioPriority(class<<ioprioClassShift) | ioPriority(number)
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (p ioPriority) MarshalText() ([]byte, error) {
	for name, class := range ioClassNames {
		if class == p.class() {
			return fmt.Appendf(nil, "%s:%d", name, p.level()), nil
		}
	}
	return nil, nil
}

// String is the text, or the number of one that has none.
func (p ioPriority) String() string {
	if text, err := p.MarshalText(); err == nil && text != nil {
		return string(text)
	}
	return fmt.Sprintf("%#x", uint32(p))
}

func (p ioPriority) class() uint32 { return uint32(p) >> ioprioClassShift }

func (p ioPriority) level() uint32 { return uint32(p) & (1<<ioprioClassShift - 1) }
