package sched

import (
	"context"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// plugin answers sched_setscheduler(2), sched_setparam(2), sched_setattr(2), setpriority(2) and ioprio_set(2).
var plugin = sdk.Func(manifest(), defaults, handle)

// all32 is the mask of an int.
const all32 = 1<<32 - 1

func manifest() sdk.Manifest {
	tid := sdk.Argument{Name: "pid", Format: sdk.Decimal}
	captures := []sdk.Capture{sdk.CaptureCredentials}
	return sdk.Manifest{
		Name:        "sched",
		Version:     "0.1.0",
		Description: "changes scheduling policies and priorities within limits",
		Syscalls: []sdk.Syscall{{
			Name:      "sched_setscheduler",
			When:      knownPolicies(1),
			Arguments: []sdk.Argument{tid, {Name: "policy"}, {Name: "param"}},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe, // a thread that has got what is asked for gets it once more
			Reads:     []sdk.Read{sdk.ReadStruct(2, 4)},
		}, {
			Name:      "sched_setparam",
			Arguments: []sdk.Argument{tid, {Name: "param"}},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe,
			Reads:     []sdk.Read{sdk.ReadStruct(1, 4)},
		}, {
			Name:      "sched_setattr",
			When:      []sdk.Match{{{Arg: 2, Mask: all32, Value: 0}}}, // there are no flags: EINVAL
			Arguments: []sdk.Argument{tid, {Name: "attr"}, {Name: "flags"}},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe,
			Reads:     []sdk.Read{sdk.ReadStruct(1, attrSizeV0)},
		}, {
			Name: "setpriority",
			If:   []string{minNiceKey},
			When: []sdk.Match{
				{{Arg: 0, Mask: all32, Value: unix.PRIO_PROCESS}},
				{{Arg: 0, Mask: all32, Value: unix.PRIO_PGRP}},
				{{Arg: 0, Mask: all32, Value: unix.PRIO_USER}},
			},
			Arguments: []sdk.Argument{{Name: "which"}, {Name: "who", Format: sdk.Decimal}, {Name: "prio", Format: sdk.Decimal}},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe,
		}, {
			Name:      "ioprio_set",
			If:        []string{maxIOPriorityKey},
			When:      []sdk.Match{{{Arg: 0, Mask: all32, Value: ioprioWhoProcess}}},
			Arguments: []sdk.Argument{{Name: "which"}, {Name: "who", Format: sdk.Decimal}, {Name: "ioprio"}},
			Captures:  captures,
			Repeat:    sdk.RepeatSafe,
		}},
		Capabilities: []string{"CAP_SYS_NICE"},
		Uses:         sdk.Uses{HostPIDs: true}, // it names threads of containers
		// The kernel asks for CAP_SYS_NICE in the initial user namespace, and refuses.
		OnFailure:          sdk.FailContinue(),
		Reasons:            reasons,
		CallerCapabilities: []string{"CAP_SYS_NICE"},
	}
}

// knownPolicies is the condition that argument arg is a policy that sched_setscheduler(2) can set: SCHED_DEADLINE, for
// one, needs more than it can say. Those without priorities may need a privilege as well: a thread leaves SCHED_IDLE by
// it, gets rid of SCHED_RESET_ON_FORK, or is another user's.
func knownPolicies(arg int) []sdk.Match {
	var matches []sdk.Match
	for _, policy := range []uint64{unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE, unix.SCHED_FIFO, unix.SCHED_RR} {
		matches = append(matches, sdk.Match{{Arg: arg, Mask: all32 &^ unix.SCHED_RESET_ON_FORK, Value: policy}})
	}
	return matches
}

// handle is sdk.Session's Handle.
//
// What is not for this plugin is Next. If no other takes it the kernel does the whole call with the caller's own
// privileges, and asks for CAP_SYS_NICE in the initial user namespace (user_check_sched_setscheduler,
// kernel/sched/syscalls.c; can_nice there for nice values; ioprio_check_cap and set_task_ioprio, block/ioprio.c and
// block/blk-ioc.c), which no caller has. It also gives the errors of a call that
// is wrong in itself.
func handle(ctx context.Context, req *sdk.Request, limits *config) (sdk.Response, error) {
	c, ok, err := decode(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	if !ok {
		return sdk.Next().Because(badArguments, ""), nil
	}
	if c.call == setIOPriority && !limits.allowIO(c.ioPriority) {
		return sdk.Next().Because(ioPriorityNotAllowed, c.ioPriority.String()), nil
	}
	privileged, err := req.Privileged(ctx, unix.CAP_SYS_NICE)
	if err != nil {
		return sdk.Response{}, err
	}
	if !privileged {
		return sdk.Next().Because(noCapability, req.Lacks(unix.CAP_SYS_NICE)), nil
	}
	if c.call == setPriority && c.which != unix.PRIO_PROCESS {
		return c.makeAll(ctx, req, limits)
	}
	response, err := c.make(ctx, req, limits)
	if isGone(err) && c.call == setIOPriority {
		return sdk.Errno(unix.ESRCH).Because(noThread, ""), nil // the kernel asks for the capability before it looks for the thread
	}
	if isGone(err) {
		// The kernel looks for the thread itself (find_process_by_pid, kernel/sched/syscalls.c: ESRCH), and for another
		// that has its id by now it asks for CAP_SYS_NICE as above. If it is the caller that is gone, nobody gets this.
		return sdk.Continue().Because(noThread, ""), nil
	}
	return response, err
}

// make makes the change if it is within the limits and the thread is the container's.
func (c change) make(ctx context.Context, req *sdk.Request, limits *config) (sdk.Response, error) {
	t, err := find(ctx, req, c.tid)
	if err != nil {
		return sdk.Response{}, err
	}
	defer t.close()
	now, err := t.state()
	if err != nil {
		return sdk.Response{}, err
	}
	c.settle(now)
	if code, text := limits.refuses(c, now); code != "" {
		return sdk.Next().Because(code, text), nil
	}
	own, err := t.InUserNamespace(req.Container.UserNamespace)
	if err != nil {
		return sdk.Response{}, err
	}
	if !own {
		return sdk.Next().Because(notOfContainer, ""), nil
	}
	// The last checks: the kernel can change a thread by its id alone, which is its own as long as it lives.
	if err := t.Alive(); err != nil {
		return sdk.Response{}, err
	}
	if errno := t.apply(c); errno != 0 {
		return sdk.Errno(errno).Because(kernelRefused, ""), nil
	}
	return sdk.Return(0), nil
}
