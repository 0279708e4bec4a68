package mount

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// mount answers a mount(2) that makes a new superblock, with the checks in the kernel's order (do_mount, do_new_mount,
// fs/namespace.c).
func (s *session) mount(ctx context.Context, req *sdk.Request, flags msFlags) (sdk.Response, error) {
	fstype, fault := optionalString(req, 2)
	if fault != 0 || fstype == nil {
		return next(badArguments, "no type")
	}
	perform := s.mountSuperblock
	if s.policy.fuse[*fstype] != "" {
		perform = s.mountFUSE
	} else if s.isFuseblk(*fstype) {
		perform = s.mountFuseblk
	} else if s.policy.allowed[*fstype] == nil {
		return next(filesystemNotListed, *fstype)
	}
	if _, err := s.mounter(ctx, req); err != nil {
		return sdk.Response{}, err
	}
	c, err := decode(ctx, req, flags)
	if err != nil {
		return sdk.Response{}, err
	}
	if s.policy.fuse[*fstype] != "" && isFUSE(parseOptions(c.data)) {
		return next(ownConnection, "")
	}
	if err := perform(ctx, req, c); err != nil {
		return sdk.Response{}, err
	}
	return sdk.Return(0), nil
}

// mountSuperblock mounts a filesystem of `allowed`.
func (s *session) mountSuperblock(ctx context.Context, req *sdk.Request, c call) error {
	caller, err := req.Target(ctx)
	if err != nil {
		return err
	}
	at, err := openPath(ctx, caller, c.target)
	if err != nil {
		return err
	}
	defer at.Close()
	o, err := s.newOrder(ctx, caller, c)
	if err != nil {
		return err
	}
	m, err := s.buildAgain(ctx, req, caller, o)
	if err != nil {
		return err
	}
	defer m.close()
	s.keepMount(ctx, req, m)
	id, err := mountID(m.mount)
	if err != nil {
		return err
	}
	over, err := s.intents.keep(ctx, req, intent{Mount: id, Dev: m.dev})
	if err != nil {
		return err
	}
	defer over()
	return s.attach(ctx, req, m, at)
}

const (
	// leftTime is how long a superblock may be there that a process of the plugin was making when it died.
	leftTime     = 2 * time.Second
	leftInterval = 20 * time.Millisecond
)

// buildAgain is build, where an earlier process may have died in the middle of it: what a helper process of that makes
// ends with the helper.
func (s *session) buildAgain(ctx context.Context, req *sdk.Request, caller *target.Target, o order) (*made, error) {
	for began := time.Now(); ; {
		m, err := s.build(ctx, caller, o)
		var refused refusal
		if !req.Again || !errors.As(err, &refused) || refused.errno != unix.EBUSY || time.Since(began) > leftTime {
			return m, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(leftInterval):
		}
	}
}

// newOrder checks options and source.
func (s *session) newOrder(ctx context.Context, caller *target.Target, c call) (order, error) {
	o := order{filesystem: s.policy.allowed[*c.fstype], attributes: c.flags.attributes()}
	given := parseOptions(c.data)
	name := c.source
	if i := slices.IndexFunc(given, func(o option) bool { return o.key == "source" }); i >= 0 && name == nil {
		name = &given[i].value
		given = slices.Delete(slices.Clone(given), i, i+1)
	}
	if hasKey(given, "source") {
		return o, refusal{unix.EINVAL, badArguments, "two sources"} // vfs_parse_fs_param_source: multiple sources
	}
	options, err := s.vetOptions(o.filesystem, append(c.flags.superblockOptions(), given...))
	if err != nil {
		return o, err
	}
	err = s.complete(ctx, caller, &o, name, options)
	return o, err
}

// complete finds the source, and adds the options that the caller did not give.
func (s *session) complete(ctx context.Context, caller *target.Target, o *order, name *string, options []option) error {
	if name == nil || *name == "" {
		return refusal{unix.EINVAL, badArguments, "no source"}
	}
	var err error
	if o.source, err = s.findSource(ctx, caller, o.filesystem, *name, isReadOnly(options)); err != nil {
		return err
	}
	o.options = slices.Clone(options)
	for _, added := range o.filesystem.added {
		if !hasKey(options, added.key) {
			o.options = append(o.options, added)
		}
	}
	if o.filesystem.owned {
		credentials, err := caller.Credentials()
		if err != nil {
			return err
		}
		o.options = append(o.options, s.ownerOptions(credentials, options)...)
	}
	return nil
}

// vetOptions refuses what reaches beyond the filesystem, and has the kernel check the rest.
func (s *session) vetOptions(f *filesystem, given []option) ([]option, error) {
	options := make([]option, len(given))
	for i, o := range given {
		var err error
		if options[i], err = s.vetOption(f, o); err != nil {
			return nil, err
		}
	}
	context, err := openContext(f, options)
	if err != nil {
		return nil, refuse(err)
	}
	unix.Close(context)
	return options, nil
}

// vetOption refuses an option that reaches beyond the filesystem, and gives the others as the kernel is to get them.
func (s *session) vetOption(f *filesystem, o option) (option, error) {
	switch f.vet(o) {
	case refused:
		s.warn("%s", f.refusal(o))
		return o, refusal{unix.EPERM, optionRefused, o.String()}
	case unknown:
		return o, s.refuseUnknown(f, o)
	default:
		return s.translate(f, o)
	}
}

// refuseUnknown is for an option that is in no table of a filesystem that has one: the kernel reports whether it knows
// it.
func (s *session) refuseUnknown(f *filesystem, o option) error {
	context, err := openContext(f, []option{o})
	if err != nil {
		return refuse(err)
	}
	unix.Close(context)
	s.warn("option %q of %s is refused: it is not known to be harmless", o, f.name)
	return refusal{unix.EPERM, optionUnknown, o.String()}
}

// translate makes an id of the container one of the host, unless the mount's map does that.
func (s *session) translate(f *filesystem, o option) (option, error) {
	var mappings sdk.IDMap
	switch {
	case s.policy.shift || !o.set:
		return o, nil
	case slices.Contains(f.uids, o.key):
		mappings = s.container.UIDMap
	case slices.Contains(f.gids, o.key):
		mappings = s.container.GIDMap
	default:
		return o, nil
	}
	id, err := strconv.ParseUint(o.value, 0, 32)
	if err != nil { // also where the kernel has a number, "+0" for example
		return o, refusal{unix.EINVAL, badArguments, o.String()}
	}
	host, ok := mappings.Outside(uint32(id))
	if !ok {
		return o, refusal{unix.EINVAL, badArguments, o.String()}
	}
	return option{o.key, strconv.FormatUint(uint64(host), 10), true}, nil
}

// remember notes a superblock that this plugin made, while its mount is open.
func (s *session) remember(m *made, o order) {
	sb := superblock{filesystem: o.filesystem, source: o.source, number: m.dev, readOnly: &atomic.Bool{}}
	sb.readOnly.Store(isReadOnly(o.options))
	var err error
	if o.filesystem.anonymous {
		sb.number, err = superblockNumber(m.mount)
	}
	if err == nil {
		err = s.mounted.add(m.dev, sb, m.mount)
	}
	if err != nil {
		s.warn("the mount of %s cannot be mounted again or remounted: its end cannot be watched: %v", o.filesystem.name, err)
	}
}

// checkOwn refuses a superblock that was there before and is not the container's own. While m is open its number
// belongs to it alone: one that replaced the container's own after create looked for that is refused too.
func (s *session) checkOwn(m *made, o order) error {
	number, err := m.dev, error(nil)
	if o.filesystem.anonymous {
		number, err = superblockNumber(m.mount)
	}
	if err != nil {
		return err
	}
	own, err := s.mounted.find(func(sb *superblock) bool { return sb.number == number })
	if err != nil {
		return err
	}
	if own == nil {
		return refusal{unix.EBUSY, foreignSuperblock, ""}
	}
	return s.mounted.add(m.dev, *own, m.mount) // it may be another subvolume
}
