package run

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// group is a cgroup of the container's own.
type group struct {
	dir string
}

// cgroups are a container's: one of the v2 hierarchy, and those of v1 for controllers that it has.
type cgroups []*group

const (
	// emptyTimeout bounds the wait for the tasks of a cgroup whose container has been killed.
	emptyTimeout = 10 * time.Second
	emptyPoll    = 5 * time.Millisecond
)

// newCgroups makes cgroups named after the container, below this process's own. They limit which device nodes it can
// open, and, as podman does, memory to limit bytes (0: no limit) and memory and swap together to twice that, where swap
// is accounted for. Where v1 has the pids controller it counts the container's tasks, as other runtimes have it do:
// that is what the plugin sysinfo asks.
func newCgroups(id string, limit int64, devices []deviceRule) (groups cgroups, err error) {
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
	if limit > 0 && found.memory == found.unified {
		if parent, err = delegatedParent(found.unified); err != nil {
			return nil, err
		}
	}
	unified, err := groups.make(parent, id)
	if err != nil {
		return groups, err
	}
	if err := unified.limitDevices(devices); err != nil {
		return groups, err
	}
	if found.pids != nil {
		if _, err := groups.make(found.pids.Path, id); err != nil {
			return groups, err
		}
	}
	if limit == 0 {
		return groups, nil
	}
	if found.memory == found.unified {
		return groups, unified.limitMemory(2, limit)
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
	return groups, memory.limitMemory(1, limit)
}

func (gs *cgroups) make(parent, id string) (*group, error) {
	g := &group{dir: filepath.Join(parent, "intercede-"+id)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup for the container: %w", err)
	}
	*gs = append(*gs, g)
	return g, nil
}

func (gs cgroups) add(pid int) error {
	for _, group := range gs {
		if err := group.write("cgroup.procs", int64(pid)); err != nil {
			return fmt.Errorf("put the container into its cgroup: %w", err)
		}
	}
	return nil
}

func (gs cgroups) remove() error {
	var failures []error
	for _, group := range gs {
		failures = append(failures, group.remove())
	}
	return errors.Join(failures...)
}

func (g *group) limitMemory(version int, limit int64) error {
	memory, swap, swapLimit := "memory.max", "memory.swap.max", limit
	if version == 1 {
		memory, swap, swapLimit = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", 2*limit
	}
	if err := g.write(memory, limit); err != nil {
		return fmt.Errorf("limit memory to %d bytes: %w", limit, err)
	}
	if err := g.write(swap, swapLimit); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("limit swap: %w", err)
	}
	return nil
}

func (g *group) write(name string, value int64) error {
	file, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.FormatInt(value, 10))
	return errors.Join(err, file.Close())
}

// remove waits for the last tasks to leave; the kernel says EBUSY until then.
func (g *group) remove() error {
	for deadline := time.Now().Add(emptyTimeout); ; time.Sleep(emptyPoll) {
		err := unix.Rmdir(g.dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", g.dir, err)
		}
	}
}
