package mknod

import (
	"slices"

	"golang.org/x/sys/unix"
)

// device is a device node's type (S_IFCHR or S_IFBLK) and number.
type device struct {
	kind         uint32
	major, minor uint32
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

// takes reports whether the plugin makes the device. Every other is the kernel's to make or to refuse.
func (p policy) takes(d device) bool {
	return d != whiteout && slices.ContainsFunc(p, func(r devices) bool { return r.has(d) })
}
