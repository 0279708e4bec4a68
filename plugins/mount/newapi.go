package mount

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// fsopen(fsname, flags) gives the caller a context for a filesystem of `allowed`. For one of `fuse`, and where the
// kernel cannot tell whose context a descriptor is, there is no such call: libmount goes on with mount(2).
func (s *session) fsopen(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	name, fault := req.String(0)
	if fault != 0 {
		return next(badArguments, "")
	}
	if s.policy.allowed[name] == nil && s.policy.fuse[name] == "" {
		return next(filesystemNotListed, name)
	}
	if _, err := s.mounter(ctx, req); err != nil {
		return sdk.Response{}, err
	}
	flags := req.Uint32(1)
	if flags&^unix.FSOPEN_CLOEXEC != 0 {
		return next(badArguments, "flags")
	}
	f := s.policy.allowed[name]
	if f == nil || !tellsFiles() {
		return sdk.Errno(unix.ENOSYS).Because(olderInterface, name), nil
	}
	fd, err := unix.Fsopen(f.driver, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return sdk.Response{}, refuse(err)
	}
	return s.give(newContext(fd, f), flags&unix.FSOPEN_CLOEXEC != 0)
}

// openFrom opens (O_PATH) what a directory's descriptor and a path name.
func openFrom(ctx context.Context, caller *target.Target, dirFD int, path string, flags uint32) (*os.File, error) {
	if path == "" && flags&unix.FSPICK_EMPTY_PATH == 0 {
		return nil, refusal{unix.ENOENT, badArguments, "no path"}
	}
	if path == "" && dirFD != unix.AT_FDCWD {
		d, err := caller.OpenDescriptor(dirFD)
		return d.File, refuse(err)
	}
	if path == "" {
		path = "."
	}
	start, release, err := caller.OpenStart(dirFD, path)
	if err != nil {
		return nil, refuse(err)
	}
	defer release()
	return openPathAt(ctx, caller, start, path, flags&unix.FSPICK_SYMLINK_NOFOLLOW == 0)
}

// Commands of fsconfig(2) that set an option.
const (
	fsconfigSetFlag     = 0
	fsconfigSetString   = 1
	fsconfigSetBinary   = 2
	fsconfigSetPath     = 3
	fsconfigSetEmpty    = 4 // a path that may be empty
	fsconfigSetFD       = 5
	fsconfigReconfigure = 7
	maxParameter        = 256 // of a key or a value, with its NUL (fsconfig, fs/fsopen.c)
)

// fsconfig(fd, command, key, value, aux) is taken for the contexts that this plugin gave.
func (s *session) fsconfig(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	caller, f, release, err := s.takeContext(ctx, req, isCollecting)
	if err != nil {
		return sdk.Response{}, err
	}
	defer release()
	if errno := checkParameters(req); errno != 0 {
		return sdk.Errno(errno).Because(badArguments, ""), nil
	}
	switch command := req.Uint32(1); {
	case command <= fsconfigSetFD:
		err = s.setOption(ctx, req, caller, f, command)
	case command == fsconfigReconfigure:
		err = s.reconfigureContext(ctx, req, caller, f)
	default:
		err = s.createContext(ctx, caller, f, command)
	}
	if err != nil {
		return sdk.Response{}, err
	}
	return sdk.Return(0), nil
}

// always and isCollecting report whether a call takes privilege. fsconfig(2) of a context that is used up is EBUSY for
// everybody (vfs_fsconfig_locked, fs/fsopen.c).
func always(*fsContext) bool         { return true }
func isCollecting(f *fsContext) bool { return f.phase == collecting }

// takeContext gives the context of argument 0. It hands the call back if that is none that this plugin gave, or the
// caller does not have the privilege any more that the call takes.
func (s *session) takeContext(ctx context.Context, req *sdk.Request, isPrivileged func(*fsContext) bool) (
	*target.Target, *fsContext, func(), error,
) {
	caller, err := req.Target(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	f, release, err := s.contexts.take(ctx, caller, req.FD(0))
	if errors.Is(err, errExchanged) {
		s.warn("fsopen(2) is of no more use in the container: %v", err)
		return nil, nil, nil, handBack{foreignContext, err.Error()}
	}
	if err == nil && f == nil {
		err = handBack{foreignContext, ""}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if isPrivileged(f) {
		_, err = s.mounter(ctx, req)
	}
	if err == nil {
		err = req.CheckValid(ctx)
	}
	if err != nil {
		release()
		return nil, nil, nil, err
	}
	return caller, f, release, nil
}

// checkParameters has the errors for arguments that do not fit the command (fsconfig, fs/fsopen.c).
func checkParameters(req *sdk.Request) unix.Errno {
	hasKey, hasValue, aux := req.Pointer(2) != 0, req.Pointer(3) != 0, req.Int32(4)
	switch command := req.Uint32(1); command {
	case fsconfigSetFlag:
		if !hasKey || hasValue || aux != 0 {
			return unix.EINVAL
		}
	case fsconfigSetString:
		if !hasKey || !hasValue || aux != 0 {
			return unix.EINVAL
		}
	case fsconfigSetBinary:
		if !hasKey || !hasValue || aux <= 0 || aux > sdk.MaxRead {
			return unix.EINVAL
		}
	case fsconfigSetPath, fsconfigSetEmpty:
		if !hasKey || !hasValue || aux < 0 && aux != unix.AT_FDCWD {
			return unix.EINVAL
		}
	case fsconfigSetFD:
		if !hasKey || hasValue || aux < 0 {
			return unix.EINVAL
		}
	case fsconfigCreate, fsconfigCreateExcl, fsconfigReconfigure:
		if hasKey || hasValue || aux != 0 {
			return unix.EINVAL
		}
	default:
		return unix.EOPNOTSUPP
	}
	return 0
}

// parameter is a key or a value: strndup_user says EINVAL where it is too long.
func parameter(req *sdk.Request, arg int) (string, error) {
	text, fault := req.String(arg)
	if fault == unix.ENAMETOOLONG {
		fault = unix.EINVAL
	}
	if fault != 0 {
		return "", refusal{fault, badArguments, ""}
	}
	return text, nil
}

// setOption checks an option, and has the context that the caller holds take it too.
func (s *session) setOption(ctx context.Context, req *sdk.Request, caller *target.Target, f *fsContext, command uint32) error {
	key, err := parameter(req, 2)
	if err != nil {
		return err
	}
	o := option{key: key}
	if command == fsconfigSetString {
		o.set = true
		if o.value, err = parameter(req, 3); err != nil {
			return err
		}
	}
	if err := checkOddValue(ctx, req, caller, command); err != nil {
		return err
	}
	if f.phase != collecting {
		return refusal{unix.EBUSY, badArguments, "the context is used up"}
	}
	if f.superblock != nil && s.isShown(o) {
		return nil
	}
	if optionsLength(f.options)+optionsLength([]option{o}) > maxData {
		return refusal{unix.EINVAL, badArguments, "the options are longer than a page"}
	}
	if key == "source" && command == fsconfigSetString { // of no effect on a superblock that is there
		if err := configure(f.shown, o); err != nil {
			return refuse(err)
		}
		f.source = &o.value
		return nil
	}
	checked, err := s.vetOption(f.filesystem, o)
	if err != nil {
		if f.filesystem.vet(o) == unknown {
			configure(f.shown, o) // for its message
		}
		return err
	}
	if command > fsconfigSetString && !genericOptions[key] {
		configureBy(f.shown, o, command)               // for its message
		return refusal{unix.EINVAL, badArguments, key} // no option of the tables is a file or a blob
	}
	if err := configureBy(f.shown, o, command); err != nil {
		return refuse(err)
	}
	f.options = append(f.options, checked)
	return nil
}

// optionsLength is how long options are as the data of mount(2), which a page bounds: a context may be kept for long.
func optionsLength(options []option) (length int) {
	for _, o := range options {
		length += len(o.key) + len("=") + len(o.value) + len(",")
	}
	return length
}

// checkOddValue has the errors for a value that is not a string, which the kernel looks at before it knows the option.
// Nothing of it reaches a filesystem.
func checkOddValue(ctx context.Context, req *sdk.Request, caller *target.Target, command uint32) error {
	switch command {
	case fsconfigSetBinary:
		_, fault, err := req.Read(ctx, req.Pointer(3), int(req.Int32(4)))
		if err != nil {
			return err
		}
		if fault != 0 {
			return refusal{fault, badArguments, "value"}
		}
	case fsconfigSetPath, fsconfigSetEmpty:
		path, fault, err := req.ReadString(ctx, req.Pointer(3), sdk.PathMax)
		if err != nil {
			return err
		}
		if fault == 0 && path == "" && command == fsconfigSetPath {
			fault = unix.ENOENT
		}
		if fault != 0 {
			return refusal{fault, badArguments, "value"}
		}
	case fsconfigSetFD:
		d, err := caller.OpenDescriptor(int(req.Int32(4)))
		if err != nil {
			return refuse(err)
		}
		d.File.Close()
		if d.Flags&unix.O_PATH != 0 {
			return refuse(pathDescriptors())
		}
	}
	return nil
}

// pathDescriptors returns the error of FSCONFIG_SET_FD for an O_PATH descriptor, which kernels before 6.13 do not take.
func pathDescriptors() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	context, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(context)
	return unix.FsconfigSetFd(context, "ro", fd)
}

// configureBy is configure by the command that the caller used. The kernel asks for no more than the key of an option
// that every superblock has, whatever the value is (vfs_parse_sb_flag, fs/fs_context.c): it gets harmless ones.
func configureBy(fd int, o option, command uint32) error {
	switch command {
	case fsconfigSetBinary:
		return unix.FsconfigSetBinary(fd, o.key, []byte{0})
	case fsconfigSetPath:
		return unix.FsconfigSetPath(fd, o.key, "/", unix.AT_FDCWD)
	case fsconfigSetEmpty:
		return unix.FsconfigSetPathEmpty(fd, o.key, "/", unix.AT_FDCWD)
	case fsconfigSetFD:
		return unix.FsconfigSetFd(fd, o.key, fd)
	}
	return configure(fd, o)
}

// createContext makes the superblock, from a context of this plugin's own.
func (s *session) createContext(ctx context.Context, caller *target.Target, f *fsContext, command uint32) error {
	if f.phase != collecting || f.superblock != nil {
		return refusal{unix.EBUSY, badArguments, "the context is used up"}
	}
	f.phase = failed
	f.order = order{filesystem: f.filesystem}
	if err := s.complete(ctx, caller, &f.order, f.source, f.options); err != nil {
		return err
	}
	err := s.create(ctx, caller, f.order, func(how creation) error {
		switch {
		case command == fsconfigCreateExcl && how == createFree:
			return refusal{unix.EOPNOTSUPP, kernelRefused, "no FSCONFIG_CMD_CREATE_EXCL"}
		case command == fsconfigCreateExcl && how == createOwn:
			return refusal{unix.EBUSY, kernelRefused, "the superblock is there already"}
		}
		w, err := newWork(caller)
		if err != nil {
			return err
		}
		defer w.close()
		fd, err := w.create(f.order, how)
		if err != nil {
			return err
		}
		if err := w.steps.Run(ctx, s.container.UserNamespace); err != nil {
			unix.Close(fd)
			return s.buildError(f.filesystem, err)
		}
		f.created, f.how = fd, how
		return nil
	})
	if err == nil {
		f.phase = created
	}
	return err
}

// fsmountAttributes are those that fsmount(2) takes (FSMOUNT_VALID_FLAGS, fs/namespace.c).
const fsmountAttributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC |
	unix.MOUNT_ATTR__ATIME | unix.MOUNT_ATTR_NODIRATIME | unix.MOUNT_ATTR_NOSYMFOLLOW

// fsmount(fd, flags, attributes) gives the caller the mount of a context that this plugin gave, and the context is of
// no more use.
func (s *session) fsmount(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	caller, f, release, err := s.takeContext(ctx, req, always)
	if err != nil {
		return sdk.Response{}, err
	}
	defer release()
	flags, attributes := req.Uint32(1), attributes(req.Uint32(2))
	switch {
	case flags&^unix.FSMOUNT_CLOEXEC != 0, attributes&^fsmountAttributes != 0, attributes.hasOddAtime():
		return sdk.Errno(unix.EINVAL).Because(badArguments, "flags"), nil
	case f.superblock != nil:
		return sdk.Errno(unix.EBUSY).Because(badArguments, "the context is of fspick(2)"), nil
	case f.phase != created:
		return sdk.Errno(unix.EINVAL).Because(badArguments, "the context has no superblock"), nil
	}
	f.order.attributes = attributes
	m, err := s.mountContext(ctx, caller, f)
	if err != nil {
		return sdk.Response{}, err
	}
	s.keepMount(ctx, req, m)
	// The descriptor that a mount lives by is no open file (O_PATH), which ADDFD does not take.
	root, err := unix.Openat(m.mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		m.close()
		return sdk.Response{}, fmt.Errorf("open the root of the mount: %w", err)
	}
	if err := s.contexts.becomeMount(f, m); err != nil {
		unix.Close(root)
		return sdk.Response{}, err
	}
	return sdk.AddFD(os.NewFile(uintptr(root), "mount"), flags&unix.FSMOUNT_CLOEXEC != 0), nil
}

func (s *session) mountContext(ctx context.Context, caller *target.Target, f *fsContext) (*made, error) {
	w, err := newWork(caller)
	if err != nil {
		return nil, err
	}
	defer w.close()
	w.mount(f.created, f.order.attributes, s.policy)
	fd, err := w.steps.Open(ctx, s.container.UserNamespace)
	if err != nil {
		return nil, s.buildError(f.filesystem, err)
	}
	return s.check(fd, f.order, f.how)
}

// move_mount(from_dfd, "", to_dfd, to_path, flags) attaches a mount that this plugin gave. It would succeed without,
// but the plugin's own descriptor, by which the mount lives until then, is to be closed before the caller goes on: with
// it the mount would be busy.
func (s *session) moveMount(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	from, fault := req.String(1)
	to, toFault := req.String(3)
	flags := req.Uint32(4)
	switch {
	case s.contexts.none(), from != "":
		return next(foreignContext, "")
	case fault != 0, toFault != 0, flags&^moveFlags != 0:
		return next(badArguments, "")
	}
	caller, err := s.mounter(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	moved, err := caller.OpenDescriptor(req.FD(0))
	if errors.Is(err, unix.EBADF) {
		return next(badArguments, "")
	}
	if err != nil {
		return sdk.Response{}, err
	}
	mount := moved.File
	defer mount.Close()
	f, err := s.contexts.mountOf(mount)
	if err != nil {
		return sdk.Response{}, err
	}
	if f == nil {
		return next(foreignContext, "")
	}
	at, err := openFrom(ctx, caller, req.FD(2), to, pickFlags(flags))
	if err != nil {
		return sdk.Response{}, err
	}
	defer at.Close()
	if err := s.checkShared(ctx, caller, at); err != nil {
		return sdk.Response{}, err
	}
	if err := req.CheckValid(ctx); err != nil {
		return sdk.Response{}, err
	}
	how := int(flags&(moveSetGroup|moveBeneath)) | unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	var refused error
	err = caller.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		refused = unix.MoveMount(int(mount.Fd()), "", int(at.Fd()), "", how)
		return nil
	})
	if err != nil || refused != nil {
		return sdk.Response{}, errors.Join(err, refuse(refused))
	}
	mount.Close()
	at.Close()
	s.contexts.forget(f)
	<-f.gone
	return sdk.Return(0), nil
}

// Flags of move_mount(2).
const (
	moveSetGroup = 0x100 // kernel 5.15
	moveBeneath  = 0x200 // kernel 6.5
	moveFlags    = unix.MOVE_MOUNT_F_SYMLINKS | unix.MOVE_MOUNT_F_AUTOMOUNTS | unix.MOVE_MOUNT_F_EMPTY_PATH |
		unix.MOVE_MOUNT_T_SYMLINKS | unix.MOVE_MOUNT_T_AUTOMOUNTS | unix.MOVE_MOUNT_T_EMPTY_PATH | moveSetGroup | moveBeneath
)

// pickFlags are the flags on the target as openFrom takes them.
func pickFlags(flags uint32) uint32 {
	var pick uint32
	if flags&unix.MOVE_MOUNT_T_SYMLINKS == 0 {
		pick |= unix.FSPICK_SYMLINK_NOFOLLOW
	}
	if flags&unix.MOVE_MOUNT_T_EMPTY_PATH != 0 {
		pick |= unix.FSPICK_EMPTY_PATH
	}
	return pick
}
