package mknod

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// device is a device node's type (S_IFCHR or S_IFBLK) and number.
type device struct {
	kind         uint32
	major, minor uint32
}

// String is the device as the settings have it: c 1:3.
func (d device) String() string {
	kind := 'c'
	if d.kind == unix.S_IFBLK {
		kind = 'b'
	}
	return fmt.Sprintf("%c %d:%d", kind, d.major, d.minor)
}

// whiteout is the overlayfs whiteout, which the kernel lets everybody make since 5.8.
var whiteout = device{unix.S_IFCHR, 0, 0}

// devices are those of one major number from a first to a last minor number.
type devices struct {
	kind, major uint32
	first, last uint32
}

func (r devices) has(d device) bool {
	return r.kind == d.kind && r.major == d.major && r.first <= d.minor && d.minor <= r.last
}

// policy says which devices are made.
type policy struct {
	listed     []devices
	everywhere bool // also devices of the host, where the container's device cgroup may let it open them
}

// refuses returns why the plugin does not make the device; "": it does. Every other is the kernel's to make or to
// refuse.
func (p policy) refuses(d device) (code string) {
	listed := slices.ContainsFunc(p.listed, func(r devices) bool { return r.has(d) })
	switch {
	case d == whiteout:
		return whiteoutMade
	case listed && !p.everywhere && d.isOfHost():
		return noDeviceCgroup
	case listed:
		return ""
	case d.kind == unix.S_IFBLK:
		return blockDevice
	default:
		return deviceNotListed
	}
}

// Devices that are the same in every container, or the caller's own (Documentation/admin-guide/devices.txt).
const (
	nullMinor    = 3
	zeroMinor    = 5
	fullMinor    = 7
	randomMinor  = 8
	urandomMinor = 9

	ttyMajor      = 5
	terminalMinor = 0 // the terminal of whoever opens it
	ptmxMinor     = 2 // a new terminal, of the devpts beside the node
)

// isOfHost reports whether whoever opens the device may reach something of the host.
func (d device) isOfHost() bool {
	if d.major == noDriver {
		return false
	}
	if d.kind == unix.S_IFCHR && d.major == memMajor {
		return !slices.Contains([]uint32{nullMinor, zeroMinor, fullMinor, randomMinor, urandomMinor}, d.minor)
	}
	return d.kind == unix.S_IFBLK || d.major != ttyMajor || d.minor != terminalMinor && d.minor != ptmxMinor
}
