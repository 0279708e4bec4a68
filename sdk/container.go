package sdk

import (
	"log/slog"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/target"
)

// Container is who is behind a notification, as the broker found out when its listener was attached. It does not change
// as long as the container lives, and the plugin does not change it either. ID and Annotations are the runtime's word,
// all else is what the kernel says.
type Container struct {
	ID          string
	Runtime     string // how it arrived: "oci", "lxc", "run"
	Annotations map[string]string
	InitPID     int // in the broker's pid namespace
	// UserNamespace is the container's own user namespace: what privilege in the container means.
	UserNamespace target.NamespaceID
	UIDMap        IDMap
	GIDMap        IDMap
	// Cgroups are the container's, from /proc/INIT/cgroup: controllers ("memory", "cpu,cpuacct", "" for version 2) to
	// the path below the hierarchy's root. A hierarchy of version 1 is left out where the container may have moved
	// itself to another container's cgroup: where neither LXC's monitor nor the OCI config confirms the path.
	Cgroups map[string]string
	// CgroupShared says why the container's cgroup of version 2 is not its own alone: a process of the host is in it.
	// Empty: it is, or there is none.
	CgroupShared string
	// DevicesDenied says that the container's device cgroup of version 2, as it was when the container was attached,
	// denies what no rule names: every device whose major and minor numbers no rule has. It is false where that could
	// not be proven, for a device cgroup of version 1, which a container can leave, and for the container of a user who
	// is not root: that user has processes outside of its cgroups.
	DevicesDenied bool
	// Kept is what Request.Keep has kept about the container before it was attached.
	Kept map[string][]byte
	// Features are what this broker has beyond the first state of the protocol, by name: docs/plugins/versioning.md has
	// the table. What the manifest needs is always there: a broker without it refuses the plugin.
	Features []string

	log *slog.Logger // nil: not from the broker
}

// Maps reports whether the container's user namespace maps both ids of the host. Only then does a capability that a
// caller has there count for a file with this owner and group (capable_wrt_inode_uidgid, kernel/capability.c).
func (c *Container) Maps(uid, gid uint32) bool {
	_, hasUID := c.UIDMap.Inside(uid)
	_, hasGID := c.GIDMap.Inside(gid)
	return hasUID && hasGID
}

// IDMap is a uid_map or gid_map, see user_namespaces(7).
type IDMap []IDMapping

// IDMapping is a line of it: Length ids from Inside in the container are those
// from Outside on the host.
type IDMapping struct {
	Inside, Outside, Length uint32
}

// Inside translates an ID of the host into the container's; false if the container has none for it.
func (m IDMap) Inside(outside uint32) (uint32, bool) {
	for _, line := range m {
		if outside >= line.Outside && outside-line.Outside < line.Length {
			return line.Inside + outside - line.Outside, true
		}
	}
	return 0, false
}

// Outside translates an ID of the container into the host's; false if the host has none for it.
func (m IDMap) Outside(inside uint32) (uint32, bool) {
	for _, line := range m {
		if inside >= line.Inside && inside-line.Inside < line.Length {
			return line.Outside + inside - line.Inside, true
		}
	}
	return 0, false
}

func containerFromWire(w *wire.Container) Container {
	return Container{
		ID:            w.GetId(),
		Runtime:       w.GetRuntime(),
		Annotations:   w.GetAnnotations(),
		InitPID:       int(w.GetInitPid()),
		UserNamespace: target.NamespaceID{Dev: w.GetUserNamespaceDev(), Ino: w.GetUserNamespaceIno()},
		UIDMap:        mappingsFromWire(w.GetUidMap()),
		GIDMap:        mappingsFromWire(w.GetGidMap()),
		Cgroups:       w.GetCgroups(),
		CgroupShared:  w.GetCgroupShared(),
		DevicesDenied: w.GetDevicesDenied(),
	}
}

func mappingsFromWire(w []*wire.IDMapping) IDMap {
	mappings := make(IDMap, 0, len(w))
	for _, m := range w {
		mappings = append(mappings, IDMapping{m.GetInside(), m.GetOutside(), m.GetLength()})
	}
	return mappings
}
