package sched

import "github.com/intercede/intercede/sdk"

// The codes of reasons.
const (
	badArguments         = "bad_arguments"
	noCapability         = "no_capability"
	policyNotListed      = "policy_not_listed"
	priorityTooHigh      = "priority_too_high"
	niceTooLow           = "nice_too_low"
	ioPriorityNotAllowed = "io_priority_not_allowed"
	notOfContainer       = "not_of_container"
	noThread             = "no_thread"
	tooManyThreads       = "too_many_threads"
	kernelRefused        = "kernel_refused"
)

var reasons = []sdk.Reason{
	{Code: badArguments, Help: "The arguments are wrong, or have a flag for which the plugin does not lend its privilege: the kernel says what it thinks of them."},
	{Code: noCapability, Help: "The caller lacks CAP_SYS_NICE in the container's user namespace: give the container that capability (podman run --cap-add sys_nice)."},
	{Code: policyNotListed, Help: "The scheduling policy is not among `policies` of the plugin's settings: add it if containers may have it."},
	{Code: priorityTooHigh, Help: "The real-time priority is above `max_priority` of the plugin's settings: raise that if containers may have it."},
	{Code: niceTooLow, Help: "The nice value is below the thread's own and below `min_nice` of the plugin's settings: lower that if containers may have it."},
	{Code: ioPriorityNotAllowed, Help: "The I/O priority is above `max_io_priority` of the plugin's settings, or is none: raise that if containers may have it."},
	{Code: notOfContainer, Help: "The thread is in a user namespace that is not the container's: nobody in the container may change it."},
	{Code: noThread, Help: "There is no thread of that number in the caller's PID namespace, or not any more."},
	{Code: tooManyThreads, Help: "The process group or the user has more than 1,024 threads in the container: change them one by one."},
	{Code: kernelRefused, Help: "The kernel refused it for another cause than the missing privilege: see sched(7). EPERM: the cgroup may have no real-time runtime (cpu.rt_runtime_us)."},
}
