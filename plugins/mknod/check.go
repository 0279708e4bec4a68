package mknod

import (
	"context"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// Check implements sdk.Checker. The call was done if the name is a node of the type, the device and the owner that it
// asks for, in a folder where the caller may make one, and with a ctime since then. If the node has to be covered and
// is not, which is where an earlier process may have died, that is done now.
//
// The container can have such a node there otherwise, by another call or by a link: its call then returns success in
// place of EEXIST. It has no node by that which it did not have. What is covered is an empty file or a node of the
// caller's own, as it could have covered it by removing that before the call.
func (s *session) Check(ctx context.Context, req *sdk.Request) (sdk.Response, bool, error) {
	n := decode(req)
	var fault unix.Errno
	if n.path, fault = req.Path(n.pathArg); fault != 0 || s.policy.refuses(n.device) != "" {
		return sdk.Response{}, false, nil
	}
	privileged, err := req.Privileged(ctx, unix.CAP_MKNOD)
	if err != nil || !privileged {
		return sdk.Response{}, false, err
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return sdk.Response{}, false, err
	}
	start, release, err := caller.OpenStart(n.dirFD, n.path)
	if err != nil {
		_, err = refusedPath(err)
		return sdk.Response{}, false, err
	}
	defer release()
	return job{n, req, caller, s.covers}.check(ctx, start)
}

// check finds what was made, and covers it if that is missing.
func (j job) check(ctx context.Context, start int) (response sdk.Response, done bool, err error) {
	at, refused, err := j.findSpot(ctx, start)
	if err != nil {
		return sdk.Response{}, false, err
	}
	if refused != nil {
		_, err := refusedPath(refused)
		return sdk.Response{}, false, err
	}
	defer unix.Close(at.dir)
	need, there, err := j.look(at)
	if err != nil || !there {
		return sdk.Response{}, false, err
	}
	outcome, err := j.finish(ctx, at, need)
	return outcome.response(), true, err
}

// findSpot finds where the node is to be; refused is why the caller cannot make it there.
func (j job) findSpot(ctx context.Context, start int) (s spot, refused, err error) {
	s = spot{dir: -1, lent: target.CapabilitySet(unix.CAP_MKNOD)}
	err = j.caller.Do(s.lent, func() error {
		if s.dir, s.name, refused = target.OpenParentHere(start, j.path); refused == nil {
			refused = unix.Faccessat(s.dir, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		}
		return nil
	})
	if err != nil || refused == nil {
		return s, nil, err
	}
	if s.dir >= 0 {
		unix.Close(s.dir)
	}
	if !target.MayNeedPower(refused) {
		return s, refused, nil
	}
	parent, name, refused := j.caller.OpenParent(ctx, start, j.path, unix.W_OK|unix.X_OK)
	if refused != nil {
		return s, refused, nil
	}
	defer parent.Close()
	s.name, s.lent = name, s.lent|target.CapabilitySet(unix.CAP_DAC_OVERRIDE)
	s.dir, err = unix.FcntlInt(parent.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return s, nil, err
}

// look reports whether what the call makes is at the spot, and whether it may have to be covered.
func (j job) look(s spot) (need covering, there bool, err error) {
	credentials, err := j.caller.Credentials()
	if err != nil {
		return coverNot, false, err
	}
	err = j.caller.Do(s.lent, func() error {
		var st unix.Stat_t
		if unix.Fstatat(s.dir, s.name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil ||
			st.Uid != credentials.UIDs.Filesystem || !j.req.ChangedSince(st.Ctim) {
			return nil
		}
		switch covers := mayCover(s.dir); {
		case j.isNode(st) && covers:
			need, there = coverIfRefused, true
		case j.isNode(st):
			there = true
		case covers && isEmptyFile(st):
			need, there = coverAlways, true
		}
		return nil
	})
	return need, there, err
}
