package container

import (
	"errors"
	"os"
	"path"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
)

// findCgroups finds the container's own cgroups. The process may be below them by now: the runtime has let it run, and
// systemd for example moves itself. What it was created with tells: the path that its runtime was given, and the root
// of its cgroup namespace. A container without either is where its process is.
func findCgroups(proc, ofRuntime string) (map[string]string, error) {
	cgroups, err := cgroup.Read(proc + "/cgroup")
	if err != nil {
		return nil, err
	}
	roots, err := findRoots(proc, cgroups)
	if err != nil {
		return nil, err
	}
	for hierarchy, p := range cgroups {
		// crun can make a cgroup below that of its config, of which the namespace's root tells.
		own := cutAfter(p, runtimePath(ofRuntime))
		if lower := roots[hierarchy]; len(lower) > len(own) {
			own = lower
		}
		if own != "" {
			cgroups[hierarchy] = own
		}
	}
	return cgroups, nil
}

func findRoots(proc string, cgroups map[string]string) (map[string]string, error) {
	namespace, err := os.Open(proc + "/ns/cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the process is gone, or the kernel has no cgroup namespaces
	}
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	return cgroup.Roots(namespace, cgroups)
}

// runtimePath is the end of the path of the container's cgroups, by linux.cgroupsPath of its config: a path, or with
// systemd's cgroup driver SLICE:PREFIX:NAME, which becomes the scope PREFIX-NAME.scope (runc, docs/systemd.md).
func runtimePath(cgroupsPath string) string {
	parts := strings.Split(cgroupsPath, ":")
	switch {
	case len(parts) == 3 && parts[1] == "":
		return parts[2] + ".scope"
	case len(parts) == 3:
		return parts[1] + "-" + parts[2] + ".scope"
	default:
		return cgroupsPath
	}
}

// cutAfter cuts the path after the first place at which it has the components of end; empty: it has them nowhere.
func cutAfter(p, end string) string {
	end = strings.Trim(path.Clean("/"+end), "/")
	before, _, found := strings.Cut(p+"/", "/"+end+"/")
	if end == "" || !found {
		return ""
	}
	return before + "/" + end
}
