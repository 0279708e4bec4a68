package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilityNames are the kernel's, in order of number (include/uapi/linux/capability.h), without CAP_.
var capabilityNames = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// capabilitySet has one bit for each capability.
type capabilitySet uint64

const allCapabilities = ^capabilitySet(0)

func (s capabilitySet) has(capability int) bool { return s&(1<<capability) != 0 }

// parseCapabilities reads the names of --cap-drop.
func parseCapabilities(names []string) (capabilitySet, error) {
	var set capabilitySet
	for _, given := range names {
		name := strings.TrimPrefix(strings.ToUpper(given), "CAP_")
		if name == "ALL" {
			return allCapabilities, nil
		}
		number := slices.Index(capabilityNames, name)
		if number < 0 {
			return 0, fmt.Errorf("unknown capability %q: see capabilities(7) for the names, or give \"all\"", given)
		}
		set |= 1 << number
	}
	return set, nil
}

// dropBounding removes capabilities from the thread's bounding set, which is what root gets by the execve that follows
// (capabilities(7), "Transformation of capabilities during execve"). It returns the bounding set that is left.
func dropBounding(drop capabilitySet) (capabilitySet, error) {
	var left capabilitySet
	for capability := range 64 {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("read the capability bounding set: %w", err)
		}
		if drop.has(capability) {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil {
				return 0, fmt.Errorf("drop capability %d: %w", capability, err)
			}
		} else if held == 1 {
			left |= 1 << capability
		}
	}
	return left, nil
}

// setCapabilities sets the thread's permitted and effective capabilities, and clears the inheritable ones and with them
// the ambient ones.
func setCapabilities(set capabilitySet) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(set), uint32(set>>32)
	data := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set the capabilities: %w", err)
	}
	return nil
}

// become gives the calling thread, which is going to execute the command, the ids of user. It keeps CAP_SYS_ADMIN, which loading
// a filter needs (seccomp(2)), until the execve, where every capability outside the bounding set goes; a user other
// than root loses all there.
func become(user *user, drop capabilitySet) error {
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
	if err := setCapabilities(bounding | 1<<unix.CAP_SYS_ADMIN); err != nil {
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
