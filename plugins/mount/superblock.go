package mount

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// Commands of fsconfig(2).
const (
	fsconfigCreate     = 6
	fsconfigCreateExcl = 8 // kernel 6.6: never a superblock that is there already
)

// order is a superblock to be made, and how it is to be mounted.
type order struct {
	filesystem *filesystem
	options    []option
	source     *source
	attributes attributes
}

// made is a mount that nobody sees yet; it ends with its descriptor.
type made struct {
	mount int
	dev   uint64 // st_dev
}

func (m *made) close() { unix.Close(m.mount) }

// openContext makes a filesystem context (fsopen(2)) with these options. The errors are the kernel's about them.
func openContext(f *filesystem, options []option) (int, error) {
	fd, err := unix.Fsopen(f.driver, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen %s: %w", f.driver, err)
	}
	for _, o := range options {
		if err := configure(fd, o); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("option %q of %s: %w", o, f.name, err)
		}
	}
	return fd, nil
}

func configure(fd int, o option) error {
	if o.set {
		return unix.FsconfigSetString(fd, o.key, o.value)
	}
	return unix.FsconfigSetFlag(fd, o.key)
}

// creation is how a superblock is made.
type creation uint8

const (
	createNew  creation = iota // the kernel refuses if there is one already
	createOwn                  // there is one, which is the container's own
	createFree                 // the kernel cannot be told to refuse: nobody uses the device the moment before
)

// create calls fn to make a superblock that was not there before, or to have one of the container's own again. The
// kernel gives a superblock that is there already without opening the device. One of the container's own that ends is
// waited for, as the kernel does in mount(2) (grab_super, fs/super.c).
func (s *session) create(ctx context.Context, caller *target.Target, o order, fn func(how creation) error) error {
	exclusive, err := hasExclusive(o.filesystem)
	if err != nil {
		return err
	}
	if !exclusive {
		return fn(createFree)
	}
	const longest = 100 * time.Millisecond
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		err = s.createOrShare(ctx, caller, o, fn)
		if !errors.Is(err, unix.EBUSY) || !s.mounted.isEnding(o.source.dev) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// createOrShare has EBUSY for a superblock that is not the container's, and for one that ends.
func (s *session) createOrShare(ctx context.Context, caller *target.Target, o order, fn func(how creation) error) error {
	err := fn(createNew)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	ofDevice := func(sb *superblock) bool { return sb.source.dev == o.source.dev }
	own, err := s.mounted.find(ofDevice)
	if own == nil && err == nil {
		if err = s.reviveDevice(ctx, caller, o.source.dev); err == nil {
			own, err = s.mounted.find(ofDevice)
		}
	}
	if err != nil {
		return err
	}
	if own == nil {
		return refusal{unix.EBUSY, foreignSuperblock, deviceText(o.source.dev)}
	}
	return fn(createOwn)
}

// createExclusive is FSCONFIG_CMD_CREATE_EXCL. Tests set it to what no kernel knows.
var createExclusive = fsconfigCreateExcl

// hasExclusive reports whether the kernel has the command for the filesystem: before 6.6 for none, later for all but
// those of the old interface. It is asked without a source, so that what is on a device has no say in it.
func hasExclusive(f *filesystem) (bool, error) {
	context, err := openContext(f, nil)
	if err != nil {
		return false, refuse(err)
	}
	defer unix.Close(context)
	_, _, errno := unix.Syscall6(unix.SYS_FSCONFIG, uintptr(context), uintptr(createExclusive), 0, 0, 0, 0)
	return errno != unix.EOPNOTSUPP, nil
}

// build makes the superblock and its mount, in one process.
func (s *session) build(ctx context.Context, caller *target.Target, o order) (m *made, err error) {
	release, err := s.mounted.turn(ctx, o.source.dev)
	if err != nil {
		return nil, err
	}
	defer release()
	err = s.create(ctx, caller, o, func(how creation) error {
		w, err := newWork(caller)
		if err != nil {
			return err
		}
		defer w.close()
		context, err := w.create(o, how)
		if err != nil {
			return err
		}
		defer unix.Close(context)
		w.mount(context, o.attributes, s.policy)
		fd, err := w.steps.Open(ctx, s.container.UserNamespace)
		if err != nil {
			return s.buildError(o.filesystem, err)
		}
		m, err = s.check(fd, o, how)
		return err
	})
	return m, err
}

// work is what a process of its own is to do, which is in the caller's cgroups, so that their limits and the devices
// that they allow hold for it.
type work struct {
	scratch scratch
	steps   *target.Steps
	user    int // the caller's user namespace
	closers []func()
}

func newWork(caller *target.Target) (*work, error) {
	w := &work{steps: &target.Steps{}}
	var err error
	if w.scratch, err = openScratch(); err != nil {
		return nil, fmt.Errorf("a mount namespace to work in: %w", err)
	}
	if w.user, err = caller.OpenUserNamespace(); err != nil {
		return nil, err
	}
	w.closers = append(w.closers, func() { unix.Close(w.user) })
	w.steps.KeepOpen(w.scratch.namespace, w.user)
	release, err := caller.JoinCgroups(w.steps, "devices", "memory")
	if err != nil {
		w.close()
		return nil, err
	}
	w.closers = append(w.closers, release)
	return w, nil
}

func (w *work) close() {
	for _, fn := range w.closers {
		fn()
	}
}

// create adds the making of the superblock, where the source's name leads to the device and no other path leads
// anywhere. It returns the filesystem context.
func (w *work) create(o order, how creation) (int, error) {
	root, err := w.scratch.place(o.source.name, o.source.dev)
	if err != nil {
		return -1, err
	}
	w.closers = append(w.closers, root.close)
	context, err := openContext(o.filesystem, append([]option{{"source", o.source.name, true}}, o.options...))
	if err != nil {
		return -1, refuse(err)
	}
	w.steps.KeepOpen(root.dir, context)
	w.steps.Add("setns to the scratch namespace", unix.SYS_SETNS, w.scratch.namespace, unix.CLONE_NEWNS)
	w.steps.Add("fchdir", unix.SYS_FCHDIR, root.dir)
	w.steps.Add("chroot", unix.SYS_CHROOT, ".")
	command := fsconfigCreate
	switch how {
	case createNew:
		command = createExclusive
	case createFree:
		held := w.steps.Add(stepHold, unix.SYS_OPENAT, unix.AT_FDCWD, o.source.name, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		w.steps.Add("close", unix.SYS_CLOSE, held)
	}
	w.steps.Add(stepCreate, unix.SYS_FSCONFIG, context, command, 0, 0, 0)
	return context, nil
}

// mount adds the mount of the context's superblock. It has the flags that the container is not to take away: they are
// locked by a copy of the mount namespace for another user namespace (lock_mnt_tree, fs/namespace.c), and so is what
// the kernel locks with them. The last step returns the mount.
func (w *work) mount(context int, a attributes, p *policy) {
	w.steps.KeepOpen(context)
	mount := w.steps.Add(stepMount, unix.SYS_FSMOUNT, context, unix.FSMOUNT_CLOEXEC, uintptr(a&atimeAttributes|p.lockedAttributes()))
	if p.shift {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(w.user)}
		w.steps.Keep(attr)
		w.steps.Add(stepShift, unix.SYS_MOUNT_SETATTR, mount, "", unix.AT_EMPTY_PATH, unsafe.Pointer(attr), int(unsafe.Sizeof(*attr)))
	}
	w.steps.Add("setns to the scratch namespace", unix.SYS_SETNS, w.scratch.namespace, unix.CLONE_NEWNS)
	w.steps.Add("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	w.steps.Add("move_mount", unix.SYS_MOVE_MOUNT, mount, "", unix.AT_FDCWD, mountPoint, unix.MOVE_MOUNT_F_EMPTY_PATH)
	w.steps.Add("setns to the user namespace", unix.SYS_SETNS, w.user, unix.CLONE_NEWUSER)
	w.steps.Add("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	w.steps.Add("open_tree", unix.SYS_OPEN_TREE, unix.AT_FDCWD, mountPoint, uintptr(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
}

// Steps whose errno is the caller's.
const (
	stepOpen   = "fsopen"
	stepOption = "fsconfig"
	stepHold   = "open exclusively"
	stepCreate = "fsconfig create"
	stepMount  = "fsmount"
	stepShift  = "mount_setattr idmap"
)

// buildError tells what the kernel says of the filesystem from what failed in the plugin.
func (s *session) buildError(f *filesystem, err error) error {
	var failed *target.StepError
	if !errors.As(err, &failed) {
		return err
	}
	switch failed.What {
	case stepOpen, stepOption, stepHold, stepCreate, stepMount:
		return refusal{failed.Errno, kernelRefused, f.name + ": " + failed.What}
	case stepShift:
		s.warn("%s cannot be mounted with shift, the kernel cannot map the ids of its files: %v", f.name, failed.Errno)
		return refusal{failed.Errno, notShifted, f.name}
	}
	return errors.New(err.Error())
}

// check compares what was mounted, whose descriptor it takes over, with what was to be, and gives the mount the
// attributes that are not locked. A new superblock is remembered.
func (s *session) check(mount int, o order, how creation) (*made, error) {
	m := &made{mount: mount}
	var st unix.Stat_t
	err := unix.Fstatat(mount, "", &st, unix.AT_EMPTY_PATH)
	m.dev = uint64(st.Dev)
	if err == nil && m.dev != o.source.dev && !o.filesystem.anonymous {
		s.warn("mount of %s is refused: it came from device %d:%d, not from the source's, %d:%d", o.filesystem.name,
			unix.Major(m.dev), unix.Minor(m.dev), unix.Major(o.source.dev), unix.Minor(o.source.dev))
		err = refusal{unix.EPERM, sourceChanged, deviceText(m.dev)}
	}
	if err == nil && how == createOwn {
		err = s.checkOwn(m, o)
	}
	if rest := o.attributes &^ (atimeAttributes | s.policy.lockedAttributes()); err == nil && rest != 0 {
		err = unix.MountSetattr(mount, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: uint64(rest)})
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("the mount: %w", err)
	}
	if how == createNew {
		s.remember(m, o)
	}
	return m, nil
}

// ownerOptions are what a filesystem without owners takes from the mounting task: the caller, not this process
// (fat_init_fs_context, fs/fat/inode.c).
func (s *session) ownerOptions(credentials *target.Credentials, given []option) []option {
	uid, gid := credentials.UIDs.Real, credentials.GIDs.Real
	if s.policy.shift { // the mount's map gives the host's ids
		uid, _ = s.container.UIDMap.Inside(uid)
		gid, _ = s.container.GIDMap.Inside(gid)
	}
	umask := strconv.FormatUint(uint64(credentials.Umask), 8)
	var options []option
	for _, o := range []option{{"uid", strconv.FormatUint(uint64(uid), 10), true}, {"gid", strconv.FormatUint(uint64(gid), 10), true},
		{"fmask", umask, true}, {"dmask", umask, true}} {
		if !hasKey(given, o.key) && !(o.key[1:] == "mask" && hasKey(given, "umask")) {
			options = append(options, o)
		}
	}
	return options
}
