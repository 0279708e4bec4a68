package mknod

import (
	"context"
	"errors"
	"os"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// job is a node to make for a caller.
type job struct {
	node
	req    *sdk.Request
	caller *target.Target
	covers *covers // of its container
}

// make makes the node for the caller. An error means that the plugin failed.
func (s *session) make(ctx context.Context, req *sdk.Request, n node) (refusal, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return refusal{}, err
	}
	start, release, err := caller.OpenStart(n.dirFD, n.path)
	if err != nil {
		return refusedPath(err)
	}
	defer release()
	j := job{n, req, caller, s.covers}
	refused, err := j.makeByName(ctx, start)
	if err != nil || !target.MayNeedPower(refused.errno) {
		return refused, err
	}
	return j.makeByPower(ctx, start)
}

// makeByName makes the node where the caller's ids alone lead, in one visit to the caller's place.
func (j job) makeByName(ctx context.Context, start int) (refusal, error) {
	s := spot{dir: -1, lent: target.CapabilitySet(unix.CAP_MKNOD)}
	var need covering
	var refused error
	err := j.caller.Do(s.lent, func() error {
		s.dir, s.name, refused = target.OpenParentHere(start, j.path)
		if refused == nil && !j.setgid() {
			need, refused = j.makeBelow(s)
		}
		return nil
	})
	if s.dir >= 0 {
		defer unix.Close(s.dir)
	}
	switch {
	case err != nil:
		return refusal{}, err
	case refused != nil:
		return refusedPath(refused)
	case j.setgid():
		return j.makeIn(ctx, s.dir, s.name, 0)
	}
	return j.finish(ctx, s, need)
}

// makeByPower is for what the caller's ids alone do not reach: a directory that it reaches by a capability in its own
// user namespace, or through a link of procfs that is different for it.
func (j job) makeByPower(ctx context.Context, start int) (refusal, error) {
	power := target.CapabilitySet(unix.CAP_DAC_OVERRIDE)
	parent, name, err := j.caller.OpenParent(ctx, start, j.path, unix.W_OK|unix.X_OK)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS) {
		// It may not write. Whether that or another reason comes first (EEXIST) is for the kernel to say.
		power = target.CapabilitySet(unix.CAP_DAC_READ_SEARCH)
		parent, name, err = j.caller.OpenParent(ctx, start, j.path, unix.X_OK)
	}
	if err != nil {
		return refusedPath(err)
	}
	defer parent.Close()
	return j.makeIn(ctx, int(parent.Fd()), name, power)
}

// makeIn makes the node in a directory of the caller, with a capability that counts there.
func (j job) makeIn(ctx context.Context, dir int, name string, power target.Capabilities) (refusal, error) {
	setgid, err := j.setgidPower(dir)
	if err != nil {
		return refusal{}, err
	}
	if err := j.req.CheckValid(ctx); err != nil {
		return refusal{}, err
	}
	s := spot{dir, name, power | setgid | target.CapabilitySet(unix.CAP_MKNOD)}
	var need covering
	var refused error
	err = j.caller.Do(s.lent, func() error {
		need, refused = j.makeBelow(s)
		return nil
	})
	switch {
	case err != nil:
		return refusal{}, err
	case refused != nil:
		return refusedPath(refused)
	}
	return j.finish(ctx, s, need)
}

// spot is where a node is made, and the capabilities lent for it.
type spot struct {
	dir  int // O_PATH: a path may lead elsewhere the next moment
	name string
	lent target.Capabilities
}

func (s spot) mknod(mode uint32, dev int) error {
	return unix.Mknodat(s.dir, s.name, mode, dev)
}

// setgid reports whether the node is to have S_ISGID in a way that the kernel asks about (mode_strip_sgid, fs/inode.c).
func (j job) setgid() bool {
	return j.mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP
}

// setgidPower is CAP_FSETID if the caller has it and it counts in the directory: the kernel then leaves S_ISGID to a
// file of a group that the caller is not in (capable_wrt_inode_uidgid).
func (j job) setgidPower(dir int) (target.Capabilities, error) {
	if !j.setgid() {
		return 0, nil
	}
	credentials, err := j.caller.Credentials()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return 0, err
	}
	if !j.req.Container.Maps(st.Uid, st.Gid) {
		return 0, nil
	}
	return credentials.Effective & target.CapabilitySet(unix.CAP_FSETID), nil
}

// refusedPath is what the kernel says of the caller's path, or else the plugin's failure.
func refusedPath(err error) (refusal, error) {
	if errno := toErrno(err); errno != 0 && !errors.Is(err, os.ErrProcessDone) && !target.IsShortage(err) {
		return refusal{errno: errno, code: kernelRefused}, nil
	}
	return refusal{}, err
}

func toErrno(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
