package mknod

import (
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// The codes of reasons.
const (
	deviceNotListed = "device_not_listed"
	blockDevice     = "block_device"
	whiteoutMade    = "whiteout"
	noDeviceCgroup  = "no_device_cgroup"
	noCapability    = "no_capability"
	badPath         = "bad_path"
	kernelRefused   = "kernel_refused"
	tooManyCovers   = "too_many_covers"
	tooManyMounts   = "too_many_mounts"
	notCovered      = "not_covered"
)

var reasons = []sdk.Reason{
	{Code: deviceNotListed, Help: "The device is not among `devices` of the plugin's settings: add it if containers may make it."},
	{Code: blockDevice, Help: "The block device is not among `devices` of the plugin's settings: add it only if the container may have that disk."},
	{Code: whiteoutMade, Help: "c 0:0 is overlayfs's whiteout, for which the kernel asks for no privilege: it makes the node itself, or the filesystem refuses it to everybody."},
	{Code: noDeviceCgroup, Help: "The device reaches the host, and no device cgroup of version 2 was found that would keep the container from opening it; one of version 1 does not count, since a container can leave it: see `require_device_cgroup`."},
	{Code: noCapability, Help: "The caller lacks CAP_MKNOD in the container's user namespace: give the container that capability (podman run --cap-add mknod)."},
	{Code: badPath, Help: "The caller's path cannot be read, is empty, or is too long: the program is wrong, as it is without the plugin."},
	{Code: kernelRefused, Help: "The kernel refused it for another cause than the missing privilege, as to real root: see the errno in mknod(2)."},
	{Code: tooManyCovers, Help: "The container has as many nodes mounted over others as `max_covers` allows: raise it, or have it unmount some."},
	{Code: tooManyMounts, Help: "The caller's mount namespace has as many mounts as /proc/sys/fs/mount-max allows."},
	{Code: notCovered, Help: "A node that can be opened needs a mount there, and the path leads into another mount namespace."},
}

// refusal is why no node is made; with errno 0 one is.
type refusal struct {
	errno      unix.Errno
	code, text string
}

func (r refusal) response() sdk.Response {
	if r.errno == 0 {
		return sdk.Return(0)
	}
	return sdk.Errno(r.errno).Because(r.code, r.text)
}
