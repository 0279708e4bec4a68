package target

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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
	theirs, err := os.ReadFile(t.proc("cgroup"))
	if err != nil {
		return nil, processError(err)
	}
	if err := t.endRead(); err != nil {
		return nil, err
	}
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	own := parseCgroups(string(ours))
	var folders []cgroupFolder
	for hierarchy, path := range parseCgroups(string(theirs)) {
		if own[hierarchy] == path || !hierarchyWanted(hierarchy, controllers) {
			continue
		}
		dir, ok := cgroupDir(string(mountinfo), hierarchy, path)
		if !ok {
			return nil, fmt.Errorf("cgroup %s of hierarchy %q: not below a mount in this process's mount namespace", path, hierarchy)
		}
		folders = append(folders, cgroupFolder{dir, hierarchy == ""})
	}
	slices.SortFunc(folders, func(a, b cgroupFolder) int { return strings.Compare(a.path, b.path) })
	return folders, nil
}

// OwnCgroups are the folders of this process's cgroups, in the hierarchies of version 1 that have one of these controllers, and
// in version 2.
func OwnCgroups(controllers ...string) ([]string, error) {
	ours, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var folders []string
	for hierarchy, path := range parseCgroups(string(ours)) {
		if dir, ok := cgroupDir(string(mountinfo), hierarchy, path); ok && hierarchyWanted(hierarchy, controllers) {
			folders = append(folders, dir)
		}
	}
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

// parseCgroups reads /proc/PID/cgroup: lines of ID:CONTROLLERS:PATH.
func parseCgroups(text string) map[string]string {
	cgroups := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) == 3 {
			cgroups[fields[1]] = fields[2]
		}
	}
	return cgroups
}

// cgroupDir finds a cgroup's folder by the mounts in mountinfo (proc_pid_mountinfo(5)).
func cgroupDir(mountinfo, hierarchy, path string) (string, bool) {
	for line := range strings.Lines(mountinfo) {
		where, what, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(where), strings.Fields(what)
		if !ok || len(left) < 6 || len(right) < 3 || !isHierarchy(right[0], right[2], hierarchy) {
			continue
		}
		below, ok := relativeTo(path, unescapeMount(left[3]))
		if ok {
			return filepath.Join(unescapeMount(left[4]), below), true
		}
	}
	return "", false
}

// isHierarchy reports whether a mount of this type and options is the hierarchy's.
func isHierarchy(fstype, options, hierarchy string) bool {
	if hierarchy == "" {
		return fstype == "cgroup2"
	}
	if fstype != "cgroup" {
		return false
	}
	has := strings.Split(options, ",")
	return !slices.ContainsFunc(strings.Split(hierarchy, ","), func(c string) bool { return !slices.Contains(has, c) })
}

// relativeTo gives a cgroup's path below root. What is outside this process's cgroup namespace begins with "/..".
func relativeTo(path, root string) (string, bool) {
	below, ok := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
	if !ok || below != "" && !strings.HasPrefix(below, "/") || slices.Contains(strings.Split(below, "/"), "..") {
		return "", false
	}
	return below, true
}

// unescapeMount undoes mountinfo's escapes: a backslash and three octal digits.
func unescapeMount(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		if s[0] == '\\' && len(s) >= 4 {
			if c, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				s = s[4:]
				continue
			}
		}
		b.WriteByte(s[0])
		s = s[1:]
	}
	return b.String()
}
