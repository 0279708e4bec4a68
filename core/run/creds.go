package run

import (
	"fmt"
	"strings"

	"github.com/intercede/intercede/internal/linux"
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

// become gives the calling thread, which is going to execute the command, the ids of user. It keeps CAP_SYS_ADMIN,
// which loading a filter needs (seccomp(2)), until the execve, where every capability outside the bounding set goes; a
// user other than root loses all there.
func become(user *user, drop target.Capabilities) error {
	bounding, err := linux.DropBounding(uint64(drop)) // what root gets by the execve
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
	// The kernel refuses an ambient capability that is not inheritable: capabilities(7).
	keep := bounding | 1<<unix.CAP_SYS_ADMIN
	if err := linux.SetThreadCapabilities(linux.CapabilitySets{Effective: keep, Permitted: keep}); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("stop keeping capabilities: %w", err)
	}
	return nil
}

// setIDs changes this thread alone.
func setIDs(user *user) error {
	if err := linux.SetThreadGroups(user.groups); err != nil {
		return err
	}
	if err := linux.SetThreadGID(user.gid); err != nil {
		return err
	}
	return linux.SetThreadUID(user.uid)
}
