package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// attach mounts m on the file that the caller named, in the caller's mount namespace, with the errors of do_add_mount
// (fs/namespace.c). If the caller is gone by then nothing stays.
func (s *session) attach(ctx context.Context, req *sdk.Request, m *made, at *os.File) error {
	place, err := s.move(ctx, req, m, at)
	if err != nil {
		return err
	}
	if err := req.CheckValid(ctx); err != nil {
		return errors.Join(err, detach(place, m))
	}
	return nil
}

// move is attach, and leaves it to the caller to look whether its caller is gone by now. That has no place any more, so
// that it is returned.
func (s *session) move(ctx context.Context, req *sdk.Request, m *made, at *os.File) (*target.Place, error) {
	caller, err := req.Target(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.checkMountPoint(ctx, caller, m, at); err != nil {
		return nil, err
	}
	place, err := caller.Place()
	if err != nil {
		return nil, err
	}
	if err := req.CheckValid(ctx); err != nil {
		return nil, err
	}
	var refused error
	err = caller.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		refused = unix.MoveMount(m.mount, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		return nil
	})
	return place, errors.Join(err, refuse(refused))
}

// checkMountPoint has the errors in which move_mount(2) differs from mount(2), and refuses what the host would see.
func (s *session) checkMountPoint(ctx context.Context, caller *target.Target, m *made, at *os.File) error {
	const how = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	var st unix.Statx_t
	err := unix.Statx(int(at.Fd()), "", how, unix.STATX_TYPE, &st)
	isFolder := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if errors.Is(err, unix.EACCES) { // FUSE: see superblockAt
		isFolder, err = true, unix.Statx(int(at.Fd()), "", how, 0, &st)
	}
	if err != nil {
		return fmt.Errorf("statx of the target: %w", err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && unix.Mkdev(st.Dev_major, st.Dev_minor) == m.dev {
		return refusal{unix.EBUSY, targetBusy, ""}
	}
	if !isFolder {
		return refusal{unix.ENOTDIR, badArguments, "the target is not a folder"}
	}
	return s.checkShared(ctx, caller, at)
}

// checkShared refuses a target where the host would see what is mounted.
func (s *session) checkShared(ctx context.Context, caller *target.Target, at *os.File) error {
	id, err := mountID(int(at.Fd()))
	if err != nil {
		return err
	}
	shared, err := sharedWithHost(ctx, caller, id)
	if err != nil {
		return err
	}
	if shared {
		s.warn("a mount is refused: the host would see it, since it shares the mount that the target is on")
		return refusal{unix.EPERM, hostSeesIt, ""}
	}
	return nil
}

// stand are the capabilities to work on a mount by way of the working directory.
var stand = target.CapabilitySet(unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH)

// detach takes the mount away, whatever the path to it is by now.
func detach(place *target.Place, m *made) error {
	return place.Do(stand, func() error {
		if err := unix.Fchdir(m.mount); err != nil {
			return err
		}
		return unix.Unmount(".", unix.MNT_DETACH)
	})
}

// sharedWithHost reports whether what is mounted on a mount of the caller shows in the host's mount namespace too.
func sharedWithHost(ctx context.Context, caller *target.Target, mount uint64) (bool, error) {
	line, err := findMountOf(ctx, caller, mount)
	if err != nil {
		return false, err
	}
	group := line.peerGroup()
	if group == "" {
		return false, nil
	}
	host, err := caller.OpenHostMountinfo()
	if err != nil {
		return false, err
	}
	defer unix.Close(host)
	shared := false
	err = eachMount(ctx, &fromStart{fd: host}, func(l mountLine) bool {
		shared = l.receives(group)
		return !shared
	})
	return shared, err
}

// peerGroup is the number of the group in which the mount is shared; empty: it is not.
func (l mountLine) peerGroup() string {
	for _, tag := range l.tags {
		if group, ok := strings.CutPrefix(tag, "shared:"); ok {
			return group
		}
	}
	return ""
}

// receives reports whether the mount is a peer or a slave of the group.
func (l mountLine) receives(group string) bool {
	return slices.Contains(l.tags, "shared:"+group) || slices.Contains(l.tags, "master:"+group)
}
