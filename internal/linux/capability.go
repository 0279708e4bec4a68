package linux

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CapabilitySets are the sets of a thread that capset(2) sets, with a bit for each capability (capabilities(7)).
type CapabilitySets struct {
	Effective, Permitted, Inheritable uint64
}

// Data are the sets as capset(2) takes them with LINUX_CAPABILITY_VERSION_3: the low halves, then the high ones.
func (s CapabilitySets) Data() *[2]unix.CapUserData {
	var data [2]unix.CapUserData
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective:   uint32(s.Effective >> shift),
			Permitted:   uint32(s.Permitted >> shift),
			Inheritable: uint32(s.Inheritable >> shift),
		}
	}
	return &data
}

// SetThreadCapabilities sets the three sets of the calling thread (capset(2)). Ambient capabilities that are not both
// permitted and inheritable go. The error wraps the errno: EPERM for capabilities that the thread is not permitted.
func SetThreadCapabilities(sets CapabilitySets) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capset(&header, &sets.Data()[0]); err != nil {
		return fmt.Errorf("capset to effective %#x: %w", sets.Effective, err)
	}
	return nil
}

// ThreadCapabilities reads the three sets of the calling thread (capget(2)).
func ThreadCapabilities() (CapabilitySets, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return CapabilitySets{}, fmt.Errorf("capget: %w", err)
	}
	var sets CapabilitySets
	for i, d := range data {
		shift := 32 * i
		sets.Effective |= uint64(d.Effective) << shift
		sets.Permitted |= uint64(d.Permitted) << shift
		sets.Inheritable |= uint64(d.Inheritable) << shift
	}
	return sets, nil
}

// DropBounding takes the capabilities of drop from the calling thread's bounding set, which limits what an execve(2)
// can give it, and returns the set that is left (PR_CAPBSET_DROP, prctl(2)). Bits past the kernel's last capability are
// not looked at. The error wraps the errno: EPERM without CAP_SETPCAP.
func DropBounding(drop uint64) (left uint64, err error) {
	for number := range 64 {
		held, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(number), 0, 0, 0)
		if err == unix.EINVAL {
			break // past the kernel's last capability
		}
		if err != nil {
			return 0, fmt.Errorf("read capability %d of the bounding set: %w", number, err)
		}
		if held == 0 {
			continue
		}
		if drop&(1<<number) == 0 {
			left |= 1 << number
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0); err != nil {
			return 0, fmt.Errorf("drop capability %d from the bounding set: %w", number, err)
		}
	}
	return left, nil
}
