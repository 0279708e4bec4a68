package run

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
)

// hierarchies are this process's cgroups in those that a container has cgroups in.
type hierarchies struct {
	unified *cgroup.Folder // v2
	memory  *cgroup.Folder // in the one with the memory controller: v1's, or unified; nil if the kernel has none
	v1      []cgroup.Folder
}

// findHierarchies takes the folders of this process's cgroups.
func findHierarchies(own map[string]cgroup.Folder) (*hierarchies, error) {
	found := &hierarchies{unified: limit.OwnV2(own), memory: limit.OwnV1(own, "memory")}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if name != "" {
			found.v1 = append(found.v1, own[name])
		}
	}
	if found.unified == nil {
		return nil, errors.New("the cgroup v2 hierarchy with this process's cgroup is not mounted, and without it nothing limits which devices a container opens: mount -t cgroup2 none DIR")
	}
	if found.memory == nil && hasController(found.unified.Top, "cgroup.controllers") {
		found.memory = found.unified
	}
	return found, nil
}

// delegatedParent returns the cgroup nearest to this process's own whose children have the memory controller. A v2
// cgroup with processes in it, other than the root, cannot give its children one (cgroups(7), "no internal processes").
func delegatedParent(own *cgroup.Folder) (string, error) {
	for _, dir := range own.Upwards() {
		if hasController(dir, "cgroup.subtree_control") {
			return dir, nil
		}
	}
	if !hasController(own.Path, "cgroup.controllers") {
		return "", fmt.Errorf("cgroup %s has no memory controller: enable it in its parents' cgroup.subtree_control, or leave --memory away", own.Path)
	}
	control := filepath.Join(own.Path, "cgroup.subtree_control")
	if err := os.WriteFile(control, []byte("+memory"), 0); err != nil {
		return "", fmt.Errorf("give the container a memory controller below %s: start intercede in a cgroup that is delegated (systemd-run --scope -p Delegate=yes), or leave --memory away: %w", own.Path, err)
	}
	return own.Path, nil
}

func hasController(dir, file string) bool {
	data, err := os.ReadFile(filepath.Join(dir, file))
	return err == nil && slices.Contains(strings.Fields(string(data)), "memory")
}
