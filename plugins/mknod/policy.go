package main

import "golang.org/x/sys/unix"

// device is a device node's type (S_IFCHR or S_IFBLK) and number.
type device struct {
	kind         uint32
	major, minor uint32
}

// whiteout is the overlayfs whiteout, which the kernel lets everybody make since 5.8.
var whiteout = device{unix.S_IFCHR, 0, 0}

// policy is the set of devices that may be made.
type policy map[device]bool

// takes reports whether the plugin makes the device. Every other is the kernel's to make or to refuse.
func (p policy) takes(d device) bool {
	return p[d] && d != whiteout
}
