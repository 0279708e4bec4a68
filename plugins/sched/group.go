package sched

import (
	"context"
	"errors"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// makeAll makes a setpriority(2) of a process group or a user, thread by thread. The result is the kernel's: the last
// error of a thread that could not be changed, or 0 (set_one_prio, kernel/sys.c).
//
// A thread that is listed may have ended when its turn comes, and its id be another's of the container: which the
// caller can change by PRIO_PROCESS.
func (c change) makeAll(ctx context.Context, req *sdk.Request, limits *config) (sdk.Response, error) {
	// What each thread may have, whatever it has now. The rest the kernel does, as far as it needs no privilege.
	if c.attr.Nice < limits.MinNice {
		return sdk.Next().Because(niceTooLow, niceText(c.attr.Nice, limits)), nil
	}
	threads, err := c.list(ctx, req)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return sdk.Next().Because(notOfContainer, "some of the threads may not be in the caller's PID namespace"), nil
	case errors.Is(err, unix.E2BIG):
		return sdk.Next().Because(tooManyThreads, ""), nil
	case err != nil:
		return sdk.Response{}, err
	}
	changed, last := false, unix.Errno(0)
	for _, tid := range threads {
		if ctx.Err() != nil {
			return sdk.Response{}, context.Cause(ctx)
		}
		errno, err := c.makeOne(ctx, req, tid)
		if isGone(err) {
			continue
		}
		if err != nil {
			return sdk.Response{}, err
		}
		if errno != 0 {
			last = errno
		}
		changed = changed || errno == 0
	}
	switch {
	case last != 0:
		return sdk.Errno(last).Because(notOfContainer, ""), nil
	case !changed:
		// The kernel looks for threads itself (ESRCH), and for those that are there by now it asks for CAP_SYS_NICE
		// (can_nice).
		return sdk.Continue().Because(noThread, ""), nil
	}
	return sdk.Return(0), nil
}

// list gives the threads that the call means.
func (c change) list(ctx context.Context, req *sdk.Request) ([]int, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return nil, err
	}
	if c.which == unix.PRIO_PGRP {
		if c.tid < 0 {
			return nil, nil
		}
		return caller.GroupThreads(c.tid)
	}
	uid, mapped, err := c.user(req, caller)
	if err != nil || !mapped {
		return nil, err
	}
	return caller.UserThreads(uid)
}

// user is the user that the call means, by its id on the host: 0 is the caller's own.
func (c change) user(req *sdk.Request, caller *target.Target) (uid uint32, mapped bool, err error) {
	if c.tid == 0 {
		credentials, err := caller.Credentials()
		if err != nil {
			return 0, false, err
		}
		return credentials.UIDs.Real, true, nil
	}
	uid, mapped = req.Container.UIDMap.Outside(uint32(c.tid))
	return uid, mapped, nil
}

// makeOne changes one thread, if it is the container's.
func (c change) makeOne(ctx context.Context, req *sdk.Request, tid int) (unix.Errno, error) {
	t, err := find(ctx, req, tid)
	if err != nil {
		return 0, err
	}
	defer t.close()
	own, err := t.InUserNamespace(req.Container.UserNamespace)
	if err != nil {
		return 0, err
	}
	if !own {
		return unix.EPERM, nil
	}
	if err := t.Alive(); err != nil {
		return 0, err
	}
	errno := t.apply(c)
	if errno == unix.ESRCH {
		return 0, errno
	}
	return errno, nil
}
