package run

import (
	"errors"
	"fmt"
	"strings"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

const allCapabilities = ^target.Capabilities(0)

// parseCapabilities reads the names of --cap-drop.
func parseCapabilities(names []string) (target.Capabilities, error) {
	var set target.Capabilities
	for _, given := range names {
		name := strings.TrimPrefix(strings.ToUpper(given), "CAP_")
		if name == "ALL" {
			return allCapabilities, nil
		}
		capability, err := target.ParseCapability("CAP_" + name)
		if err != nil {
			return 0, fmt.Errorf("unknown capability %q: see capabilities(7) for the names, or give \"all\"", given)
		}
		set |= target.CapabilitySet(capability)
	}
	return set, nil
}

// dropBounding removes capabilities from the thread's bounding set, which is what root gets by the execve that follows
// (capabilities(7), "Transformation of capabilities during execve"). It returns the bounding set that is left.
func dropBounding(drop target.Capabilities) (target.Capabilities, error) {
	var left target.Capabilities
	for capability := range target.Capability(64) {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read the capability bounding set: %w", err)
		}
		if drop.Has(capability) {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil {
				return 0, fmt.Errorf("drop capability %d: %w", capability, err)
			}
		} else if held == 1 {
			left |= 1 << capability
		}
	}
	return left, nil
}

// become gives the calling thread, which is going to execute the command, the ids of user. It keeps CAP_SYS_ADMIN, which loading
// a filter needs (seccomp(2)), until the execve, where every capability outside the bounding set goes; a user other
// than root loses all there.
func become(user *user, drop target.Capabilities) error {
	bounding, err := dropBounding(drop)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	if err := setIDs(user); err != nil {
		return err
	}
	if user.uid != 0 {
		bounding = 0
	}
	// Without inheritable capabilities there are no ambient ones.
	keep := bounding | target.CapabilitySet(unix.CAP_SYS_ADMIN)
	if err := target.SetThreadCapabilities(keep, keep, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("stop keeping capabilities: %w", err)
	}
	return nil
}

// setIDs changes this thread alone, unlike the functions of package syscall.
func setIDs(user *user) error {
	if err := setThreadGroups(user.groups); err != nil {
		return fmt.Errorf("set the supplementary groups %v: %w", user.groups, err)
	}
	gid, uid := uintptr(user.gid), uintptr(user.uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return fmt.Errorf("set the group id %d: %w", user.gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return fmt.Errorf("set the user id %d: %w", user.uid, errno)
	}
	return nil
}
