package limit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of a delegated cgroup's subtree, which whoever ends it has to walk.
const (
	maxDepth       = "64"
	maxDescendants = "4096"
)

// delegateFile has the names of the files that go with a delegated cgroup (Documentation/admin-guide/cgroup-v2.rst).
const delegateFile = "/sys/kernel/cgroup/delegate"

// Delegate lets the user, by its ID, make cgroups below this one of version 2, and move its processes there. The
// limits of the cgroup itself are not for the user to change.
func (g *Group) Delegate(uid, gid int) error {
	for name, bound := range map[string]string{"cgroup.max.depth": maxDepth, "cgroup.max.descendants": maxDescendants} {
		if err := g.write(name, bound); err != nil {
			return fmt.Errorf("delegate cgroup %s: %w", g.Dir, err)
		}
	}
	names := []string{"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"}
	if text, err := os.ReadFile(delegateFile); err == nil {
		names = strings.Fields(string(text))
	}
	for _, name := range append(names, ".") {
		if err := os.Chown(filepath.Join(g.Dir, name), uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delegate cgroup %s: %w", g.Dir, err)
		}
	}
	return nil
}
