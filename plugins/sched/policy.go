package main

import "golang.org/x/sys/unix"

// limits are what the operator lets containers have.
type limits struct {
	policies    map[uint32]bool // SCHED_*
	maxPriority uint32
	minNice     int32 // 0: no nice value is lent
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

// realTime reports whether the policy has priorities from 1 to 99.
func realTime(policy uint32) bool { return policy == unix.SCHED_FIFO || policy == unix.SCHED_RR }

// fair reports whether the kernel sets the nice value with this policy (fair_policy, kernel/sched/sched.h).
func fair(policy uint32) bool { return policy == unix.SCHED_NORMAL || policy == unix.SCHED_BATCH }
