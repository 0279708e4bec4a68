package container

import (
	"cmp"
	"path"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/mountinfo"
	"github.com/intercede/intercede/sdk/target"
)

// Whether a path in /proc/PID/cgroup can be believed depends on the version of the hierarchy.
//
// In version 2 a task moves only if its mover may write to cgroup.procs of the cgroup above both, the old one and the
// new one (cgroup_procs_write_permission, kernel/cgroup/cgroup.c). That is not the container's, so that its process is
// in the container's cgroup or below.
//
// Version 1 asks only whether who opened the new cgroup's file has the task's user ID (__cgroup1_procs_write,
// kernel/cgroup/cgroup-v1.c). LXC gives that file to the container's root, containers often have the same IDs, and
// descriptors can be passed: a container can go to another one's cgroup, and make a cgroup namespace there. Nor can
// the broker look before the container's program runs: LXC connects at the first notified call, and OCI runtimes do not
// wait for the broker. So a path of version 1 counts if something confirms it that the container cannot change: the
// cgroup of the process that brought it, or the config of its runtime.

// ReadPeer returns the cgroups of a process that brings a container; nil: they are not known, or the process is in a
// user namespace other than the broker's, where a container may move it.
func ReadPeer(pid int) map[string]string {
	own, err1 := target.StatNamespace("/proc/self/ns/user")
	its, err2 := target.StatNamespace(procPath(pid, "ns/user"))
	if err1 != nil || err2 != nil || own != its {
		return nil
	}
	cgroups, err := cgroup.Read(procPath(pid, "cgroup"))
	if err != nil {
		return nil
	}
	return cgroups
}

// confirm returns the container's own cgroups, and those of version 1 in which its process is and that nothing
// confirms.
func (c Claim) confirm(cgroups map[string]string) (own, unconfirmed map[string]string) {
	own, unconfirmed = map[string]string{}, map[string]string{}
	for hierarchy, p := range cgroups {
		if hierarchy == "" {
			own[hierarchy] = p
		} else if confirmed, ok := c.confirmOne(p, c.PeerCgroups[hierarchy]); ok {
			own[hierarchy] = confirmed
		} else {
			unconfirmed[hierarchy] = p
		}
	}
	return own, unconfirmed
}

// confirmOne is for one hierarchy of version 1, in which the process and the container's peer are; peer is empty if
// that is not known.
func (c Claim) confirmOne(process, peer string) (own string, ok bool) {
	made := ofConfig(c.CgroupsPath, peer)
	if c.Runtime == runtimeLXC {
		made = ofMonitor(peer)
	}
	if made != "" && mountinfo.Within(process, made) {
		return made, true
	}
	// The container has no cgroup of its own here: it is where its peer is, to which it could not come.
	return process, process == peer
}

// ofMonitor is the cgroup that LXC makes for a container beside that of its monitor; empty: the monitor's tells
// nothing. Where a cgroup of such a name is left from before, LXC adds -N to both names; if it does so to one alone,
// the container's cgroup is not confirmed.
func ofMonitor(monitor string) string {
	above, name := cutLast(monitor)
	name, found := strings.CutPrefix(name, lxcMonitor)
	if !found || name == "" {
		return ""
	}
	return above + "/" + lxcPayload + name
}

// cutLast cuts a path before its last component. Unlike package path it keeps the "/.." of what is outside of this
// process's cgroup namespace.
func cutLast(p string) (above, last string) {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)], p[i+1:]
}

// ofConfig is where a runtime makes a container's cgroup: linux.cgroupsPath from the root, that with systemd's cgroup
// driver in its slice, or a relative one below the runtime's own cgroup; empty: it is not known.
func ofConfig(cgroupsPath, runtime string) string {
	slice, _, systemd := strings.Cut(cgroupsPath, ":")
	switch {
	case systemd:
		return slicePath(slice) + "/" + runtimePath(cgroupsPath)
	case path.IsAbs(cgroupsPath):
		return path.Clean(cgroupsPath)
	case cgroupsPath == "" || runtime == "":
		return ""
	default:
		return strings.TrimSuffix(runtime, "/") + path.Clean("/"+cgroupsPath)
	}
}

// slicePath is the path of a slice, which is below those that its name begins with: a-b.slice is /a.slice/a-b.slice
// (systemd.slice(5)). Runtimes take system.slice where none is given.
func slicePath(slice string) string {
	name := strings.TrimSuffix(cmp.Or(slice, "system.slice"), ".slice")
	if name == "-" {
		return ""
	}
	p := ""
	for i, r := range name + "-" {
		if r == '-' {
			p += "/" + name[:i] + ".slice"
		}
	}
	return p
}
