package mount

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// A FUSE daemon that serves a block device mounts its connection with the type "fuseblk", which the kernel does not
// let it do in a user namespace, as it does with "fuse" (FS_USERNS_MOUNT, fs/fuse/inode.c). So it is mounted as
// "fuse" here, by a process in the daemon's own user namespace: the daemon could have done the same itself.

// fuseblk is the type; a subtype may follow, "fuseblk.ntfs-3g".
const fuseblk = "fuseblk"

// isFuseblk reports whether a FUSE daemon mounts its own connection by that type.
func (s *session) isFuseblk(fstype string) bool {
	name, _, _ := strings.Cut(fstype, ".")
	return name == fuseblk && len(s.policy.fuse) > 0 && s.policy.fuse[fstype] == "" && s.policy.allowed[fstype] == nil
}

// mountFuseblk mounts the connection of the descriptor that the options name.
func (s *session) mountFuseblk(ctx context.Context, req *sdk.Request, c call) error {
	if c.source == nil {
		return refusal{unix.EINVAL, badArguments, "no source"}
	}
	caller, err := req.Target(ctx)
	if err != nil {
		return err
	}
	at, err := openPath(ctx, caller, c.target)
	if err != nil {
		return err
	}
	defer at.Close()
	node, _, err := openNode(ctx, caller, *c.source)
	if err != nil {
		return err
	}
	node.Close()
	connection, err := s.takeConnection(caller, parseOptions(c.data))
	if err != nil {
		return err
	}
	defer unix.Close(connection) // EBADF for notOpen
	m, err := s.buildFuse(ctx, caller, c, connection)
	if err != nil {
		return err
	}
	defer m.close()
	id, err := mountID(m.mount)
	if err != nil {
		return err
	}
	over, err := s.intents.keep(ctx, req, intent{Mount: id, Dev: m.dev})
	if err != nil {
		return err
	}
	defer over()
	place, err := s.move(ctx, req, m, at)
	if err != nil {
		return err
	}
	if gone := req.CheckValid(ctx); gone != nil {
		return errors.Join(gone, undoFuse(place, c.target, id))
	}
	return nil
}

// notOpen is a number that no descriptor has: the largest that fs.nr_open allows is smaller (sysctl_nr_open_max,
// fs/file.c).
const notOpen = math.MaxInt32

// takeConnection duplicates the descriptor that the option fd names, or returns notOpen, for which the kernel has
// errors that depend on its version. The kernel finds out whether the descriptor is of a FUSE device that was opened in
// the container's user namespace (fuse_get_tree).
func (s *session) takeConnection(caller *target.Target, options []option) (int, error) {
	i := slices.IndexFunc(options, func(o option) bool { return o.key == "fd" })
	if i < 0 {
		return -1, refusal{unix.EINVAL, badArguments, "no option fd"}
	}
	const bits = 31
	number, err := strconv.ParseUint(options[i].value, 0, bits)
	if err != nil {
		return -1, refusal{unix.EINVAL, badArguments, options[i].String()}
	}
	fd, err := caller.Duplicate(int(number))
	switch {
	case errors.Is(err, unix.EBADF):
		return notOpen, nil
	case errors.Is(err, unix.EOPNOTSUPP):
		return -1, refusal{unix.EINVAL, badArguments, "the descriptor is not of a FUSE device"}
	case errors.Is(err, unix.ESTALE):
		return -1, s.contexts.endTrust()
	}
	return fd, err
}

// buildFuse makes the superblock and its mount, in the container's user namespace.
func (s *session) buildFuse(ctx context.Context, caller *target.Target, c call, connection int) (*made, error) {
	w, err := newWork(caller)
	if err != nil {
		return nil, err
	}
	defer w.close()
	w.steps.KeepOpen(connection)
	w.steps.Add("setns to the scratch namespace", unix.SYS_SETNS, w.scratch.namespace, unix.CLONE_NEWNS)
	w.steps.Add("setns to the user namespace", unix.SYS_SETNS, w.user, unix.CLONE_NEWUSER)
	w.steps.Add("unshare", unix.SYS_UNSHARE, unix.CLONE_NEWNS) // which that user namespace owns
	context := w.steps.Add(stepOpen, unix.SYS_FSOPEN, "fuse", unix.FSOPEN_CLOEXEC)
	for _, o := range fuseblkOptions(c, connection) {
		if o.set {
			w.steps.Add(stepOption, unix.SYS_FSCONFIG, context, fsconfigSetString, o.key, o.value, 0)
		} else {
			w.steps.Add(stepOption, unix.SYS_FSCONFIG, context, fsconfigSetFlag, o.key, 0, 0)
		}
	}
	w.steps.Add(stepCreate, unix.SYS_FSCONFIG, context, fsconfigCreate, 0, 0, 0)
	w.steps.Add(stepMount, unix.SYS_FSMOUNT, context, unix.FSMOUNT_CLOEXEC, uintptr(c.flags.attributes()))
	fd, err := w.steps.Open(ctx, s.container.UserNamespace)
	if err != nil {
		return nil, s.buildError(&filesystem{name: fuseblk}, err)
	}
	m := &made{mount: fd}
	// The daemon waits for this call, and is not to be asked.
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		m.close()
		return nil, fmt.Errorf("statx of the mount: %w", err)
	}
	m.dev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	return m, nil
}

// fuseblkOptions are those of the call for the type "fuse". The block size is the kernel's business for a block device
// alone, which refuses it for "fuse".
func fuseblkOptions(c call, connection int) []option {
	options := append([]option{{"source", *c.source, true}}, c.flags.superblockOptions()...)
	if _, subtype, ok := strings.Cut(*c.fstype, "."); ok {
		options = append(options, option{"subtype", subtype, true})
	}
	for _, o := range parseOptions(c.data) {
		switch o.key {
		case "blksize", "source":
			continue
		case "fd":
			o.value = strconv.Itoa(connection)
		}
		options = append(options, o)
	}
	return options
}

// undoFuse takes the mount away of a caller that is gone, if the path still leads to it.
func undoFuse(place *target.Place, path string, id uint64) error {
	return place.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		at, err := target.OpenPathHere(unix.AT_FDCWD, path, true)
		if err != nil {
			return err
		}
		defer at.Close()
		var st unix.Statx_t
		err = unix.Statx(int(at.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
		if err != nil || st.Mnt_id != id {
			return err
		}
		return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	})
}
