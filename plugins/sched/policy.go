package sched

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// state is how a thread is scheduled.
type state struct {
	policy      uint32 // SCHED_*
	resetOnFork bool
	nice        int32
}

// refuses returns why a thread in this state may not be changed so; an empty code: it may. Every other change is the
// kernel's to make or to refuse.
func (l *config) refuses(c change, now state) (code, text string) {
	switch {
	case c.call == setIOPriority:
		if !l.allowIO(c.ioPriority) {
			return ioPriorityNotAllowed, c.ioPriority.String()
		}
	case c.call != setPriority && !slices.Contains(l.Policies, policy(c.attr.Policy)):
		return policyNotListed, policy(c.attr.Policy).String()
	case c.call != setPriority && realTime(c.attr.Policy):
		if c.attr.Priority > l.MaxPriority {
			return priorityTooHigh, fmt.Sprintf("priority %d, max_priority is %d", c.attr.Priority, l.MaxPriority)
		}
	case c.call == setPriority, c.call == setAttr && fair(c.attr.Policy):
		if !l.allowNice(c.attr.Nice, now) {
			return niceTooLow, niceText(c.attr.Nice, l)
		}
	}
	return "", ""
}

func niceText(nice int32, l *config) string {
	return fmt.Sprintf("nice %d, min_nice is %d", nice, l.MinNice)
}

// allowNice lets a thread have every nice value that it has, or that is no lower.
func (l *config) allowNice(nice int32, now state) bool {
	return nice >= now.nice || l.MinNice != 0 && nice >= l.MinNice
}

// allowIO reports whether the I/O priority is one that is lent: classes with a smaller number come first, as do
// levels. What the kernel knows as no priority at all is for the kernel to refuse.
func (l *config) allowIO(priority ioPriority) bool {
	ceiling := l.MaxIOPriority
	switch class := priority.class(); {
	case ceiling == 0 || priority.level() >= ioprioLevels:
		return false
	case class == ioprioClassIdle:
		return true
	case class == ioprioClassRT, class == ioprioClassBE:
		return class > ceiling.class() || class == ceiling.class() && priority.level() >= ceiling.level()
	}
	return false
}

// realTime reports whether the policy has priorities from 1 to 99.
func realTime(policy uint32) bool { return policy == unix.SCHED_FIFO || policy == unix.SCHED_RR }

// fair reports whether the kernel sets the nice value with this policy (fair_policy, kernel/sched/sched.h).
func fair(policy uint32) bool { return policy == unix.SCHED_NORMAL || policy == unix.SCHED_BATCH }
