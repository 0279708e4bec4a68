package main

import "golang.org/x/sys/unix"

// limits are what the operator lets containers have.
type limits struct {
	policies    map[uint32]bool // SCHED_*
	maxPriority uint32
	minNice     int32 // 0: no nice value is lent
	// The highest I/O priority; class 0: none is lent.
	ioClass, ioLevel uint32
}

// state is how a thread is scheduled.
type state struct {
	policy      uint32 // SCHED_*
	resetOnFork bool
	nice        int32
}

// allow reports whether a thread in this state may be changed so. Every other change is the kernel's to make or to
// refuse.
func (l limits) allow(c change, now state) bool {
	switch {
	case c.call == setIOPriority:
		return l.allowIO(c.ioPriority)
	case c.call == setPriority:
		return l.allowNice(c.attr.Nice, now)
	case !l.policies[c.attr.Policy]:
		return false
	case realTime(c.attr.Policy):
		return c.attr.Priority <= l.maxPriority
	case c.call == setAttr && fair(c.attr.Policy):
		return l.allowNice(c.attr.Nice, now)
	}
	return true
}

// allowNice lets a thread have every nice value that it has, or that is no lower.
func (l limits) allowNice(nice int32, now state) bool {
	return nice >= now.nice || l.minNice != 0 && nice >= l.minNice
}

// allowIO reports whether the I/O priority is one that is lent: classes with a smaller number come first, as do levels. What
// the kernel knows as no priority at all is for the kernel to refuse.
func (l limits) allowIO(priority uint32) bool {
	class, level := priority>>ioprioClassShift, priority&(1<<ioprioClassShift-1)
	switch {
	case l.ioClass == 0 || level >= ioprioLevels:
		return false
	case class == ioprioClassIdle:
		return true
	case class == ioprioClassRT, class == ioprioClassBE:
		return class > l.ioClass || class == l.ioClass && level >= l.ioLevel
	}
	return false
}

// realTime reports whether the policy has priorities from 1 to 99.
func realTime(policy uint32) bool { return policy == unix.SCHED_FIFO || policy == unix.SCHED_RR }

// fair reports whether the kernel sets the nice value with this policy (fair_policy, kernel/sched/sched.h).
func fair(policy uint32) bool { return policy == unix.SCHED_NORMAL || policy == unix.SCHED_BATCH }
