package sdk

import (
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/target"
)

// Container is who is behind a notification, as the broker found out when its listener was attached.
type Container struct {
	ID          string
	Runtime     string // how it arrived: "oci", "run"
	Annotations map[string]string
	InitPID     int // in the broker's pid namespace
	// UserNamespace is the container's own user namespace: what privilege in the container means.
	UserNamespace target.NamespaceID
	UIDMap        []IDMapping
	GIDMap        []IDMapping
	// Cgroups are the container's, from /proc/INIT/cgroup: controllers ("memory", "cpu,cpuacct", "" for version 2) to the
	// path below the hierarchy's root.
	Cgroups map[string]string
}

// IDMapping is a line of uid_map or gid_map, see user_namespaces(7): Length ids from Inside in the container are those
// from Outside on the host.
type IDMapping struct {
	Inside, Outside, Length uint32
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
	}
}

func mappingsFromWire(w []*wire.IDMapping) []IDMapping {
	mappings := make([]IDMapping, 0, len(w))
	for _, m := range w {
		mappings = append(mappings, IDMapping{m.GetInside(), m.GetOutside(), m.GetLength()})
	}
	return mappings
}
