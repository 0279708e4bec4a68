package run

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/internal/device"
)

// cgroups are a container's: one of the v2 hierarchy, and those of v1 for controllers that it has.
type cgroups []*limit.Group

// newCgroups makes cgroups named after the container, below this process's own. They limit which device nodes it can
// open, and, as podman does, memory to so many bytes (0: no limit) and memory and swap together to twice that, where
// swap is accounted for. Where v1 has the pids controller it counts the container's tasks, as other runtimes have it
// do: that is what the plugin sysinfo asks. The cgroup of version 2 is delegated to the container's root, whose ids on
// the host are given, so that systemd and engines work in the container.
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
	if found.pids != nil {
		if _, err := groups.make(found.pids.Path, id); err != nil {
			return groups, err
		}
	}
	if memoryLimit == 0 {
		return groups, nil
	}
	if found.memory == found.unified {
		return groups, unified.LimitMemory(2, memoryLimit)
	}
	if found.memory == nil {
		return groups, errors.New("the kernel has no memory cgroups: boot it with cgroup_enable=memory, or leave --memory away")
	}
	memory, err := groups.make(found.memory.Path, id)
	if errors.Is(err, fs.ErrExist) && found.pids != nil && found.pids.Path == found.memory.Path {
		memory, err = groups[len(groups)-1], nil // one hierarchy has both controllers
	}
	if err != nil {
		return groups, err
	}
	return groups, memory.LimitMemory(1, memoryLimit)
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
