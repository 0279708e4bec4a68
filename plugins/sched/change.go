package sched

import (
	"context"
	"encoding/binary"
	"os"

	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// change is what a caller asks for.
type change struct {
	call call
	tid  int // in the caller's pid namespace; 0: the calling thread
	// which is of setPriority PRIO_PROCESS, PRIO_PGRP or PRIO_USER: then tid is the number of a group or user instead.
	which uint32
	// attr is of setPriority the nice value alone, of setScheduler the policy, the priority and
	// SCHED_FLAG_RESET_ON_FORK.
	attr unix.SchedAttr
	// keepsPolicy: the thread keeps its policy and SCHED_FLAG_RESET_ON_FORK, whatever attr says.
	keepsPolicy bool
	ioPriority  ioPriority // of setIOPriority
}

// call is the system call that makes a change.
type call int

const (
	setScheduler call = iota // sched_setparam(2) too
	setAttr
	setPriority
	setIOPriority
)

// Values of ioprio_set(2) (include/uapi/linux/ioprio.h).
const (
	ioprioWhoProcess = 1
	ioprioClassShift = 13
	ioprioClassRT    = 1
	ioprioClassBE    = 2
	ioprioClassIdle  = 3
	ioprioLevels     = 8
)

// decode reads a call. It is not ok if the kernel refuses the call whoever makes it (EINVAL, EFAULT, E2BIG), or if it
// has a flag that the plugin does not lend its privilege for.
func decode(ctx context.Context, req *sdk.Request) (c change, ok bool, err error) {
	c.tid = int(req.Int32(0))
	switch req.Syscall {
	case "sched_setscheduler":
		c.setPolicy(req.Uint32(1))
		ok = c.readPriority(req, 2)
	case "sched_setparam":
		c.keepsPolicy = true
		ok = c.readPriority(req, 1)
	case "sched_setattr":
		var raw []byte
		if raw, ok, err = readAttr(ctx, req); ok {
			ok = c.parseAttr(raw)
		}
	case "setpriority":
		c.call, c.tid, c.which, ok = setPriority, int(req.Int32(1)), req.Uint32(0), true
		c.attr.Nice = clampNice(req.Int32(2))
	case "ioprio_set":
		c.call, c.tid, ok = setIOPriority, int(req.Int32(1)), true
		c.ioPriority = ioPriority(req.Uint32(2))
	}
	return c, ok, err
}

// setPolicy takes a policy that may have SCHED_RESET_ON_FORK in it.
func (c *change) setPolicy(policy uint32) {
	c.attr.Policy = policy &^ unix.SCHED_RESET_ON_FORK
	c.resetOnFork(policy&unix.SCHED_RESET_ON_FORK != 0)
}

func (c *change) resetOnFork(yes bool) {
	c.attr.Flags &^= unix.SCHED_FLAG_RESET_ON_FORK
	if yes {
		c.attr.Flags |= unix.SCHED_FLAG_RESET_ON_FORK
	}
}

// readPriority reads a struct sched_param.
func (c *change) readPriority(req *sdk.Request, arg int) bool {
	param, fault := req.Bytes(arg)
	if fault != 0 {
		return false
	}
	c.attr.Priority = binary.NativeEndian.Uint32(param)
	return true
}

// attrSizeV0 is the least size of a struct sched_attr (SCHED_ATTR_SIZE_VER0, include/uapi/linux/sched/types.h).
const attrSizeV0 = 48

// readAttr reads a struct sched_attr of the size that it says it has (sched_copy_attr, kernel/sched/syscalls.c).
func readAttr(ctx context.Context, req *sdk.Request) ([]byte, bool, error) {
	raw, fault := req.Bytes(1)
	if fault != 0 {
		return nil, false, nil
	}
	size := int64(binary.NativeEndian.Uint32(raw))
	if size == 0 || size == attrSizeV0 {
		return raw, true, nil
	}
	if size < attrSizeV0 || size > int64(os.Getpagesize()) {
		return nil, false, nil
	}
	rest, fault, err := req.Read(ctx, req.Pointer(1)+attrSizeV0, int(size-attrSizeV0))
	if fault != 0 || err != nil {
		return nil, false, err
	}
	return append(raw[:len(raw):len(raw)], rest...), true, nil
}

// lentFlags are those that a change may have. The kernel asks for no privilege for utilization clamps, and the flags of
// SCHED_DEADLINE go with that policy. SCHED_FLAG_KEEP_PARAMS is left to the kernel: it lets a call reserve bandwidth of
// SCHED_DEADLINE for a thread of another policy.
const lentFlags = unix.SCHED_FLAG_RESET_ON_FORK | unix.SCHED_FLAG_RECLAIM | unix.SCHED_FLAG_DL_OVERRUN |
	unix.SCHED_FLAG_KEEP_POLICY | unix.SCHED_FLAG_UTIL_CLAMP

// parseAttr takes the memory of a struct sched_attr, at least attrSizeV0 bytes.
func (c *change) parseAttr(raw []byte) bool {
	whole := make([]byte, max(len(raw), unix.SizeofSchedAttr))
	copy(whole, raw)
	for _, unknown := range whole[unix.SizeofSchedAttr:] {
		if unknown != 0 {
			return false
		}
	}
	c.call = setAttr
	if _, err := binary.Decode(whole, binary.NativeEndian, &c.attr); err != nil {
		return false
	}
	if c.attr.Flags&^lentFlags != 0 || c.attr.Flags&unix.SCHED_FLAG_UTIL_CLAMP != 0 && len(raw) < unix.SizeofSchedAttr {
		return false
	}
	c.keepsPolicy = c.attr.Flags&unix.SCHED_FLAG_KEEP_POLICY != 0
	c.attr.Flags &^= unix.SCHED_FLAG_KEEP_POLICY
	c.attr.Nice = clampNice(c.attr.Nice)
	return int32(c.attr.Policy) >= 0
}

func clampNice(nice int32) int32 { return min(max(nice, -20), 19) }

// settle makes a change that keeps the policy one that sets the policy of now: what is decided on is what is done,
// whatever policy the thread gets meanwhile.
func (c *change) settle(now state) {
	if !c.keepsPolicy {
		return
	}
	c.attr.Policy = now.policy
	c.resetOnFork(now.resetOnFork)
}
