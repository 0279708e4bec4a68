package mount

import (
	"context"
	"os"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// fspickFlags are those of fspick(2).
const fspickFlags = unix.FSPICK_CLOEXEC | unix.FSPICK_SYMLINK_NOFOLLOW | unix.FSPICK_NO_AUTOMOUNT | unix.FSPICK_EMPTY_PATH

// fspick(dfd, path, flags) gives the caller a context for a superblock that this plugin made for its container.
func (s *session) fspick(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	path, fault := req.String(1)
	flags := req.Uint32(2)
	switch {
	case s.mounted.none() && len(s.left) == 0, !tellsFiles():
		return next(foreignSuperblock, "")
	case fault != 0, flags&^fspickFlags != 0:
		return next(badArguments, "")
	}
	caller, err := s.mounter(ctx, req)
	if err != nil {
		return sdk.Response{}, err
	}
	at, err := openFrom(ctx, caller, req.FD(0), path, flags)
	if isRefusal(err) {
		// The kernel says so too, and asks for CAP_SYS_ADMIN as Handle says where the path leads to something by now.
		return sdk.Continue().Because(badArguments, "the path leads to nothing"), nil
	}
	if err != nil {
		return sdk.Response{}, err
	}
	defer at.Close()
	sb, isRoot, err := s.superblockAt(int(at.Fd()))
	if err != nil {
		return sdk.Response{}, err
	}
	if sb == nil || !isRoot {
		return next(foreignSuperblock, "")
	}
	// Nobody sees when the caller closes its context: what it holds must not hold the superblock.
	shown, err := unix.Fsopen(sb.filesystem.driver, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return sdk.Response{}, refuse(err)
	}
	f := newContext(shown, sb.filesystem)
	f.superblock = sb
	if err := f.pick(at); err != nil {
		f.close()
		return sdk.Response{}, err
	}
	return s.give(f, flags&unix.FSPICK_CLOEXEC != 0)
}

// pick opens a context of the superblock of a mount. It holds the superblock, and not the mount, which would be busy.
func (f *fsContext) pick(at *os.File) (err error) {
	if f.pickedAt, err = mountID(int(at.Fd())); err != nil {
		return err
	}
	f.picked, err = unix.Fspick(int(at.Fd()), "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	return refuse(err)
}

// pickAgain is pick for a further change, as long as the mount is where the caller sees it.
func (s *session) pickAgain(ctx context.Context, caller *target.Target, f *fsContext) error {
	if f.picked >= 0 {
		return nil
	}
	line, err := findMountOf(ctx, caller, f.pickedAt)
	if err != nil {
		return err
	}
	if line.id == "" {
		return refusal{unix.EBUSY, foreignContext, "the mount is not there any more"}
	}
	at, err := openPath(ctx, caller, unescape(line.point))
	if err != nil {
		return err
	}
	defer at.Close()
	sb, isRoot, err := s.superblockAt(int(at.Fd()))
	if err != nil {
		return err
	}
	if sb != f.superblock || !isRoot {
		return refusal{unix.EBUSY, foreignContext, "the mount is not there any more"}
	}
	return f.pick(at)
}

// reconfigureContext changes the superblock of a context from fspick(2), by a context of this plugin's own.
func (s *session) reconfigureContext(ctx context.Context, req *sdk.Request, caller *target.Target, f *fsContext) error {
	if f.superblock == nil || f.phase != collecting {
		return refusal{unix.EBUSY, badArguments, "the context is not of fspick(2), or used up"}
	}
	// Without a word on it some filesystems take it for read-write (__ext4_remount, fs/ext4/super.c): there is always
	// one.
	readOnly, word := f.superblock.readOnly.Load(), "ro"
	if hasKey(f.options, "ro", "rw") {
		readOnly = isReadOnly(f.options)
	}
	if !readOnly {
		word = "rw"
		if err := mayWrite(ctx, caller, f.superblock); err != nil {
			return err
		}
	}
	if err := s.pickAgain(ctx, caller, f); err != nil {
		return err
	}
	defer f.letGo()
	options := append(f.options, option{key: word})
	f.options = nil
	for _, o := range options {
		if err := configure(f.picked, o); err != nil {
			f.phase = failed
			return refuse(err)
		}
	}
	if err := req.CheckValid(ctx); err != nil {
		return err
	}
	if err := unix.FsconfigReconfigure(f.picked); err != nil {
		f.phase = failed
		return refuse(err)
	}
	f.superblock.readOnly.Store(readOnly)
	s.keep(ctx, req, f.superblock)
	return nil
}
