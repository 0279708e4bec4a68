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

// policy has the devices that may be made.
type policy []devices

// refuses returns why the plugin does not make the device; "": it does. Every other is the kernel's to make or to
// refuse.
func (p policy) refuses(d device) (code string) {
	switch {
	case d == whiteout:
		return whiteoutMade
	case slices.ContainsFunc(p, func(r devices) bool { return r.has(d) }):
		return ""
	case d.kind == unix.S_IFBLK:
		return blockDevice
	default:
		return deviceNotListed
	}
}
