package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/internal/device"
)

// cgroups are a container's: one of the v2 hierarchy, and those of v1.
type cgroups []*limit.Group

// newCgroups makes cgroups named after the container, below this process's own. They limit which device nodes it can
// open, and, as podman does, memory to so many bytes (0: no limit) and memory and swap together to twice that, where
// swap is accounted for. The cgroup of version 2 is delegated to the container's root, whose ids on the host are given,
// so that systemd and engines work in the container.
func newCgroups(id string, memoryLimit int64, devices []device.Rule, uid, gid int) (groups cgroups, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, groups.remove())
		}
	}()
	own, err := cgroup.OwnFolders()
	if err != nil {
		return nil, fmt.Errorf("find this process's cgroups: %w", err)
	}
	found, err := findHierarchies(own)
	if err != nil {
		return nil, err
	}
	parent := found.unified.Path
	if memoryLimit > 0 && found.memory == found.unified {
		if parent, err = delegatedParent(found.unified); err != nil {
			return nil, err
		}
	}
	unified, err := groups.make(parent, id)
	if err != nil {
		return groups, err
	}
	if err := limitDevices(unified, devices); err != nil {
		return groups, err
	}
	if err := unified.Delegate(uid, gid); err != nil {
		return groups, err
	}
	if err := groups.makeV1(found.v1, id); err != nil {
		return groups, err
	}
	switch {
	case memoryLimit == 0:
		return groups, nil
	case found.memory == nil:
		return groups, errors.New("the kernel has no memory cgroups: boot it with cgroup_enable=memory, or leave --memory away")
	case found.memory == found.unified:
		return groups, unified.LimitMemory(2, memoryLimit)
	}
	memory := groups.in(found.memory.Path)
	if memory == nil { // makeV1 has left it out for the cpu controller, which it has too
		if memory, err = groups.make(found.memory.Path, id); err != nil {
			return groups, err
		}
	}
	return groups, memory.LimitMemory(1, memoryLimit)
}

// makeV1 makes cgroups in hierarchies of version 1. The container's root can mount these, from the cgroup down that its
// cgroup namespace begins with, and other containers below that may have the same IDs. The one with the pids controller
// also tells the plugin sysinfo how many tasks the container has.
//
// A new cgroup has no time for real-time policies (cpu.rt_runtime_us), which the plugin sched may allow: in that
// hierarchy the container stays where this process is.
func (gs *cgroups) makeV1(own []cgroup.Folder, id string) error {
	for _, folder := range own {
		if text, err := os.ReadFile(filepath.Join(folder.Path, "cpu.rt_runtime_us")); err == nil && strings.TrimSpace(string(text)) != "0" {
			continue
		}
		g, err := gs.make(folder.Path, id)
		if err != nil {
			return err
		}
		if err := g.InheritSets(); err != nil {
			return fmt.Errorf("cgroups of the container: %w", err)
		}
	}
	return nil
}

// in is the cgroup that was made in a folder; nil: none was.
func (gs cgroups) in(parent string) *limit.Group {
	i := slices.IndexFunc(gs, func(g *limit.Group) bool { return filepath.Dir(g.Dir) == parent })
	if i < 0 {
		return nil
	}
	return gs[i]
}

// CgroupsPath is the path of a container's cgroups below that of the process that started it.
func CgroupsPath(id string) string { return "intercede-" + id }

func (gs *cgroups) make(parent, id string) (*limit.Group, error) {
	g, err := limit.Make(parent, CgroupsPath(id))
	if err != nil {
		return nil, fmt.Errorf("cgroups of the container: %w", err)
	}
	*gs = append(*gs, g)
	return g, nil
}

func (gs cgroups) add(pid int) error {
	for _, group := range gs {
		if err := group.Add(pid); err != nil {
			return fmt.Errorf("put the container into its cgroup: %w", err)
		}
	}
	return nil
}

func (gs cgroups) remove() error {
	var failures []error
	for _, group := range gs {
		failures = append(failures, group.Remove())
	}
	return errors.Join(failures...)
}
