package run

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// hierarchy is a mounted cgroup hierarchy.
type hierarchy struct {
	point string // where it is mounted
	own   string // this process's cgroup in it
}

// hierarchies are those that a container has cgroups in.
type hierarchies struct {
	unified *hierarchy // v2
	memory  *hierarchy // the one with the memory controller: v1's, or unified; nil if the kernel has none
	pids    *hierarchy // v1's with the pids controller; nil if there is none
}

func findHierarchies() (*hierarchies, error) {
	mounts, err := hostMounts()
	if err != nil {
		return nil, err
	}
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find this process's cgroups: %w", err)
	}
	return chooseHierarchies(mounts, string(memberships))
}

// chooseHierarchies takes the text of /proc/self/cgroup (cgroups(7)).
func chooseHierarchies(mounts []*mountinfo.Info, memberships string) (*hierarchies, error) {
	found := &hierarchies{}
	lines := bufio.NewScanner(strings.NewReader(memberships))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		for controller, hierarchy := range map[string]**hierarchy{"memory": &found.memory, "pids": &found.pids} {
			if slices.Contains(strings.Split(fields[1], ","), controller) {
				v1 := func(m *mountinfo.Info) bool {
					return m.FSType == "cgroup" && slices.Contains(strings.Split(m.VFSOptions, ","), controller)
				}
				*hierarchy = mountedHierarchy(mounts, v1, fields[2])
			}
		}
		if fields[0] == "0" {
			found.unified = mountedHierarchy(mounts, func(m *mountinfo.Info) bool { return m.FSType == "cgroup2" }, fields[2])
		}
	}
	if found.unified == nil {
		return nil, errors.New("the cgroup v2 hierarchy with this process's cgroup is not mounted, and without it nothing limits which devices a container opens: mount -t cgroup2 none DIR")
	}
	if found.memory == nil && hasController(found.unified.point, "cgroup.controllers") {
		found.memory = found.unified
	}
	return found, nil
}

// mountedHierarchy is the first mount that fits and shows the cgroup at path.
func mountedHierarchy(mounts []*mountinfo.Info, fits func(*mountinfo.Info) bool, path string) *hierarchy {
	for _, m := range mounts {
		if !fits(m) || !within(path, m.Root) {
			continue
		}
		if relative, err := filepath.Rel(m.Root, path); err == nil {
			return &hierarchy{point: m.Mountpoint, own: filepath.Join(m.Mountpoint, relative)}
		}
	}
	return nil
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
