package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// attach mounts m on the file that the caller named, in the caller's mount namespace, with the errors of do_add_mount
// (fs/namespace.c). If the caller is gone by then nothing stays.
func (s *session) attach(ctx context.Context, req *sdk.Request, m *made, at *os.File) error {
	caller, err := req.Target(ctx)
	if err != nil {
		return err
	}
	if err := s.checkMountPoint(caller, m, at); err != nil {
		return err
	}
	if err := req.CheckValid(ctx); err != nil {
		return err
	}
	var refused error
	err = caller.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN), func() error {
		refused = unix.MoveMount(m.mount, "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		return nil
	})
	if err != nil || refused != nil {
		return errors.Join(err, refuse(refused))
	}
	if err := req.CheckValid(ctx); err != nil {
		return errors.Join(err, detach(caller, m))
	}
	return nil
}

// checkMountPoint has the errors in which move_mount(2) differs from mount(2), and refuses what the host would see.
func (s *session) checkMountPoint(caller *target.Target, m *made, at *os.File) error {
	var st unix.Statx_t
	if err := unix.Statx(int(at.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &st); err != nil {
		return fmt.Errorf("statx of the target: %w", err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 && unix.Mkdev(st.Dev_major, st.Dev_minor) == m.dev {
		return refusal{unix.EBUSY}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return refusal{unix.ENOTDIR}
	}
	return s.checkShared(caller, at)
}

// checkShared refuses a target where the host would see what is mounted.
func (s *session) checkShared(caller *target.Target, at *os.File) error {
	id, err := mountID(int(at.Fd()))
	if err != nil {
		return err
	}
	shared, err := sharedWithHost(caller, id)
	if err != nil {
		return err
	}
	if shared {
		warn(&s.container, "a mount is refused: the host would see it, since it shares the mount that the target is on")
		return refusal{unix.EPERM}
	}
	return nil
}

// stand are the capabilities to work on a mount by way of the working directory.
var stand = target.CapabilitySet(unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH)

// detach takes the mount away, whatever the path to it is by now.
func detach(caller *target.Target, m *made) error {
	return caller.Do(stand, func() error {
		if err := unix.Fchdir(m.mount); err != nil {
			return err
		}
		return unix.Unmount(".", unix.MNT_DETACH)
	})
}

// sharedWithHost says whether what is mounted on a mount of the caller shows in this process's mount namespace too.
func sharedWithHost(caller *target.Target, mount uint64) (bool, error) {
	theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", caller.TID()))
	if err != nil {
		return false, err
	}
	group := peerGroup(theirs, mount)
	if group == "" {
		return false, nil
	}
	ours, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	return receives(ours, group), nil
}

// propagation gives a mount's id and the optional fields of a line of mountinfo (proc_pid_mountinfo(5)).
func propagation(line []byte) (id string, fields []string) {
	where, _, _ := bytes.Cut(line, []byte(" - "))
	all := strings.Fields(string(where))
	if len(all) < 6 {
		return "", nil
	}
	return all[0], all[6:]
}

// peerGroup is the number of the group in which the mount is shared; empty: it is not.
func peerGroup(mountinfo []byte, mount uint64) string {
	for line := range bytes.Lines(mountinfo) {
		id, fields := propagation(line)
		if id != fmt.Sprint(mount) {
			continue
		}
		for _, field := range fields {
			if group, ok := strings.CutPrefix(field, "shared:"); ok {
				return group
			}
		}
	}
	return ""
}

// receives says whether a mount is a peer or a slave of the group.
func receives(mountinfo []byte, group string) bool {
	for line := range bytes.Lines(mountinfo) {
		_, fields := propagation(line)
		for _, field := range fields {
			if field == "shared:"+group || field == "master:"+group {
				return true
			}
		}
	}
	return false
}
