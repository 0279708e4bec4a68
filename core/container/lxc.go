package container

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
)

// runtimeLXC is the Runtime of a claim that LXC's monitor makes.
const runtimeLXC = "lxc"

// LXC makes a cgroup for a container and one for its monitor; the container's name follows (lxc.container.conf(5)).
const (
	lxcPayload = "lxc.payload."
	lxcMonitor = "lxc.monitor."
)

// LXCName is the name of the container that the process is the monitor of, from its cgroup, to which the container
// cannot move it; empty if that does not have it, as with lxc.cgroup.dir.monitor.
func LXCName(monitor int) string {
	cgroups, err := cgroup.Read(fmt.Sprintf("/proc/%d/cgroup", monitor))
	if err != nil {
		return ""
	}
	return lxcName(cgroups)
}

func lxcName(cgroups map[string]string) string {
	for _, p := range slices.Sorted(maps.Values(cgroups)) {
		if name, found := strings.CutPrefix(path.Base(p), lxcMonitor); found {
			return strings.ToValidUTF8(name, "?")
		}
	}
	return ""
}

// identify names a container whose peer does not, as LXC. It is the same container as long as its first process is the
// same, whatever it is called.
func (c *Container) identify() {
	c.key = c.ID
	if c.ID == "" {
		c.key = fmt.Sprintf("pid-%d", c.InitPID)
		c.ID = cmp.Or(c.Name, c.key)
	}
}

// lxcRoot is the container's own cgroup. Its first process may be below it when it is looked at: systemd moves itself
// to init.scope.
func lxcRoot(p string) string {
	components := strings.Split(p, "/")
	i := slices.IndexFunc(components, func(component string) bool { return strings.HasPrefix(component, lxcPayload) })
	if i < 0 {
		return p
	}
	return strings.Join(components[:i+1], "/")
}

// Key tells containers of one runtime and one user namespace apart.
func (c *Container) Key() string { return c.key }
