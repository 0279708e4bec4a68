package run

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is a cgroup of the container's own, with the memory controller.
type cgroup struct {
	dir string
}

// hierarchy is a mounted cgroup hierarchy that has the memory controller.
type hierarchy struct {
	version int
	point   string // where it is mounted
	own     string // this process's cgroup in it
}

const (
	// emptyTimeout bounds the wait for the tasks of a cgroup whose container has been killed.
	emptyTimeout = 10 * time.Second
	emptyPoll    = 5 * time.Millisecond
)

// newMemoryCgroup makes a cgroup named after the container, below this process's own, and sets its limits as podman
// does: memory to limit bytes, memory and swap together to twice that, where swap is accounted for.
func newMemoryCgroup(id string, limit int64) (*cgroup, error) {
	found, err := memoryHierarchy()
	if err != nil {
		return nil, err
	}
	parent := found.own
	if found.version == 2 {
		if parent, err = delegatedParent(found); err != nil {
			return nil, err
		}
	}
	group := &cgroup{dir: filepath.Join(parent, "intercede-"+id)}
	if err := os.Mkdir(group.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup for the memory limit: %w", err)
	}
	if err := group.limitMemory(found.version, limit); err != nil {
		return nil, errors.Join(err, group.remove())
	}
	return group, nil
}

func (g *cgroup) limitMemory(version int, limit int64) error {
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

func (g *cgroup) add(pid int) error {
	if err := g.write("cgroup.procs", int64(pid)); err != nil {
		return fmt.Errorf("put the container into its cgroup: %w", err)
	}
	return nil
}

func (g *cgroup) write(name string, value int64) error {
	file, err := os.OpenFile(filepath.Join(g.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strconv.FormatInt(value, 10))
	return errors.Join(err, file.Close())
}

// remove waits for the last tasks to leave; the kernel says EBUSY until then.
func (g *cgroup) remove() error {
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

// memoryHierarchy finds the v1 hierarchy of the memory controller or, where there is none, the v2 hierarchy.
func memoryHierarchy() (*hierarchy, error) {
	mounts, err := hostMounts()
	if err != nil {
		return nil, err
	}
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the memory cgroup: %w", err)
	}
	return findMemoryHierarchy(mounts, string(memberships))
}

// findMemoryHierarchy takes the text of /proc/self/cgroup (cgroups(7)).
func findMemoryHierarchy(mounts []mount, memberships string) (*hierarchy, error) {
	unified := ""
	lines := bufio.NewScanner(strings.NewReader(memberships))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if slices.Contains(strings.Split(fields[1], ","), "memory") {
			return mountedHierarchy(1, mounts, fields[2])
		}
		if fields[0] == "0" {
			unified = fields[2]
		}
	}
	if unified == "" {
		return nil, errors.New("the kernel has no memory cgroups: boot it with cgroup_enable=memory, or leave --memory away")
	}
	return mountedHierarchy(2, mounts, unified)
}

func mountedHierarchy(version int, mounts []mount, path string) (*hierarchy, error) {
	for _, m := range mounts {
		v1 := m.fstype == "cgroup" && slices.Contains(m.options, "memory")
		v2 := m.fstype == "cgroup2"
		if version == 1 && !v1 || version == 2 && !v2 || !within(path, m.root) {
			continue
		}
		relative, err := filepath.Rel(m.root, path)
		if err != nil {
			continue
		}
		return &hierarchy{version: version, point: m.point, own: filepath.Join(m.point, relative)}, nil
	}
	return nil, fmt.Errorf("the cgroup v%d hierarchy with this process's memory cgroup %s is not mounted: mount it, or leave --memory away", version, path)
}

// delegatedParent returns the cgroup nearest to this process's own whose children have the memory controller. A v2
// cgroup with processes in it, other than the root, cannot give its children one (cgroups(7), "no internal processes").
func delegatedParent(found *hierarchy) (string, error) {
	for dir := found.own; within(dir, found.point); dir = filepath.Dir(dir) {
		if hasController(dir, "cgroup.subtree_control") {
			return dir, nil
		}
	}
	if !hasController(found.own, "cgroup.controllers") {
		return "", fmt.Errorf("cgroup %s has no memory controller: enable it in its parents' cgroup.subtree_control, or leave --memory away", found.own)
	}
	control := filepath.Join(found.own, "cgroup.subtree_control")
	if err := os.WriteFile(control, []byte("+memory"), 0); err != nil {
		return "", fmt.Errorf("give the container a memory controller below %s: start intercede in a cgroup that is delegated (systemd-run --scope -p Delegate=yes), or leave --memory away: %w", found.own, err)
	}
	return found.own, nil
}

func hasController(dir, file string) bool {
	data, err := os.ReadFile(filepath.Join(dir, file))
	return err == nil && slices.Contains(strings.Fields(string(data)), "memory")
}
