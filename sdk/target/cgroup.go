package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// JoinCgroups adds the steps that move the process to the target's cgroups (cgroups(7)), in the hierarchies of version
// 1 that have one of these controllers, and in version 2: what the target may use, of devices too, then holds for it.
// With no controllers: in all hierarchies. The descriptors in use are closed by the function returned.
// Confirm comes after it and before the steps are made.
//
// The process needs CAP_DAC_OVERRIDE to open the files, and to see the hierarchies where the host has them mounted.
func (t *Target) JoinCgroups(s *Steps, controllers ...string) (release func(), err error) {
	folders, err := t.cgroupFolders(controllers)
	if err != nil {
		return nil, err
	}
	var fds []int
	release = func() {
		for i := range fds {
			closeAll(&fds[i])
		}
	}
	for _, f := range folders {
		fd, err := unix.Open(f.membersFile(), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			release()
			return nil, &os.PathError{Op: "open", Path: f.membersFile(), Err: err}
		}
		fds = append(fds, fd)
		s.KeepOpen(fd)
		s.Add("join "+f.path, unix.SYS_WRITE, fd, "0", 1)
	}
	return release, nil
}

// cgroupFolder is a cgroup in the filesystem.
type cgroupFolder struct {
	path    string
	unified bool // it is of version 2
}

// membersFile is where a process with one thread joins. Version 1 lets the thread join alone, which does not wait for a
// grace period of RCU (cgroup_procs_write_start, kernel/cgroup/cgroup.c). In version 2 there is no such file, and
// clone3(2) with CLONE_INTO_CGROUP will not do: who may freeze the cgroup could stop the process before it has closed
// this one's descriptors.
func (f cgroupFolder) membersFile() string {
	if f.unified {
		return filepath.Join(f.path, "cgroup.procs")
	}
	return filepath.Join(f.path, "tasks")
}

// cgroupFolders are those of the target's cgroups that this process is not in.
func (t *Target) cgroupFolders(controllers []string) ([]cgroupFolder, error) {
	theirs, err := cgroup.Read(t.proc("cgroup"))
	if err != nil {
		return nil, processError(err)
	}
	if err := t.endRead(); err != nil {
		return nil, err
	}
	ours, err := cgroup.Read("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	found, err := cgroup.Folders(theirs)
	if err != nil {
		return nil, err
	}
	var folders []cgroupFolder
	for hierarchy, path := range theirs {
		if ours[hierarchy] == path || !hierarchyWanted(hierarchy, controllers) {
			continue
		}
		folder, ok := found[hierarchy]
		if !ok {
			return nil, fmt.Errorf("cgroup %s of hierarchy %q: not below a mount in this process's mount namespace", path, hierarchy)
		}
		folders = append(folders, cgroupFolder{folder.Path, hierarchy == ""})
	}
	slices.SortFunc(folders, func(a, b cgroupFolder) int { return strings.Compare(a.path, b.path) })
	return folders, nil
}

// hierarchyWanted reports whether a hierarchy, named as in /proc/PID/cgroup ("" is version 2), has one of the
// controllers.
func hierarchyWanted(hierarchy string, controllers []string) bool {
	if hierarchy == "" || len(controllers) == 0 {
		return true
	}
	for _, c := range strings.Split(hierarchy, ",") {
		if slices.Contains(controllers, c) {
			return true
		}
	}
	return false
}
