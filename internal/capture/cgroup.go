package capture

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
	"golang.org/x/sys/unix"
)

// addCgroups captures the files by which a process joins the thread's cgroups (cgroups(7)): in the hierarchies of
// version 1 that have one of these controllers, or in all if there are none, and in version 2.
func (s *Set) addCgroups(tid int, controllers []string) {
	folders, errno := cgroupFolders(tid, controllers)
	if errno != 0 {
		s.Errno = int32(s.goneOr(tid, errno))
		return
	}
	for _, f := range folders {
		h := s.handle(PartCgroups, 0)
		h.Text = append(h.Text, f.path...)
		fd, errno := openFile(f.membersFile(), unix.O_WRONLY)
		s.finish(h, fd, errno)
	}
}

// cgroupFolder is a cgroup in the filesystem.
type cgroupFolder struct {
	path    string
	unified bool // it is of version 2
}

// membersFile is where a process with one thread joins. Version 1 lets the thread join alone, which does not wait for a
// grace period of RCU (cgroup_procs_write_start, kernel/cgroup/cgroup.c). In version 2 there is no such file, and
// clone3(2) with CLONE_INTO_CGROUP will not do: who may freeze the cgroup could stop the process before it has closed
// what it inherits.
func (f cgroupFolder) membersFile() string {
	if f.unified {
		return filepath.Join(f.path, "cgroup.procs")
	}
	return filepath.Join(f.path, "tasks")
}

// cgroupFolders are those of the thread's cgroups. A hierarchy that is mounted nowhere holds nobody, if the thread is
// in the same cgroup of it as this process; else it is an error (ENOENT is a thread that is gone).
func cgroupFolders(tid int, controllers []string) ([]cgroupFolder, unix.Errno) {
	theirs, err := cgroup.Read(procPath(tid, "cgroup"))
	if err != nil {
		return nil, toErrno(err)
	}
	ours, err := cgroup.Read("/proc/self/cgroup")
	if err != nil {
		return nil, toErrno(err)
	}
	found, err := cgroup.Folders(theirs)
	if err != nil {
		return nil, toErrno(err)
	}
	var folders []cgroupFolder
	for hierarchy, path := range theirs {
		if !hierarchyWanted(hierarchy, controllers) {
			continue
		}
		folder, ok := found[hierarchy]
		if !ok && ours[hierarchy] == path {
			continue
		}
		if !ok {
			return nil, unix.ENXIO
		}
		folders = append(folders, cgroupFolder{folder.Path, hierarchy == ""})
	}
	slices.SortFunc(folders, func(a, b cgroupFolder) int { return cmp.Compare(a.path, b.path) })
	return folders, 0
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

// CgroupShared says why a container's cgroup of version 2 is not its own alone: on a hybrid host, a container may be
// where the process was that started it. It is empty if there is no such process of the host's user namespace in it,
// and for the topmost cgroup.
func CgroupShared(cgroups map[string]string) string {
	if path := cgroups[""]; path == "" || path == "/" {
		return ""
	}
	found, err := cgroup.Folders(map[string]string{"": cgroups[""]})
	if err != nil {
		return err.Error()
	}
	folder, ok := found[""]
	if !ok {
		return ""
	}
	processes, err := os.ReadFile(filepath.Join(folder.Path, "cgroup.procs"))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return "" // the container has ended, and its cgroup with it
	}
	if err != nil {
		return err.Error()
	}
	host, err := StatNamespace("/proc/self/ns/user")
	if err != nil {
		return err.Error()
	}
	for _, pid := range strings.Fields(string(processes)) {
		if namespace, err := StatNamespace("/proc/" + pid + "/ns/user"); err == nil && namespace == host {
			return fmt.Sprintf("process %s of the host is in the container's cgroup %s", pid, cgroups[""])
		}
	}
	return ""
}
