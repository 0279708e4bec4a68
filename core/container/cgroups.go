package container

import (
	"cmp"
	"errors"
	"os"
	"path"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
)

// findCgroups finds the container's own cgroups, and those of version 1 that nothing confirms (see confirm).
func findCgroups(claim Claim, pid int) (own, unconfirmed map[string]string, err error) {
	cgroups, err := cgroup.Read(procPath(pid, "cgroup"))
	if err != nil {
		return nil, nil, err
	}
	if p, ok := cgroups[""]; ok {
		if cgroups[""], err = findVersion2(claim, pid, p); err != nil {
			return nil, nil, err
		}
	}
	own, unconfirmed = claim.confirm(cgroups)
	return own, unconfirmed, nil
}

// findVersion2 finds the container's own cgroup of version 2. The process, which is in p, may be below it by now: the
// runtime has let it run, and systemd for example moves itself. What it was created with tells: the path that its
// runtime was given, and the root of its cgroup namespace. A container without either is where its process is. The
// process cannot have left the container's cgroup, so that all of these are in it or above.
func findVersion2(claim Claim, pid int, p string) (string, error) {
	root, err := findRoot(pid, p)
	if err != nil {
		return "", err
	}
	// crun can make a cgroup below that of its config, of which the namespace's root tells.
	own := cutAfter(p, runtimePath(claim.CgroupsPath))
	if len(root) > len(own) {
		own = root
	}
	own = cmp.Or(own, p)
	if claim.Runtime == runtimeLXC {
		own = lxcRoot(own)
	}
	return own, nil
}

// findRoot finds the root of the process's cgroup namespace in version 2; empty: it tells nothing.
func findRoot(pid int, p string) (string, error) {
	namespace, err := os.Open(procPath(pid, "ns/cgroup"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil // the process is gone, or the kernel has no cgroup namespaces
	}
	if err != nil {
		return "", err
	}
	defer namespace.Close()
	roots, err := cgroup.Roots(namespace, map[string]string{"": p})
	return roots[""], err
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
