package sdktest

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// WithCgroup puts the container into a cgroup, of either version: dir is its directory, open until NewContainer
// returns. It stays the test's to remove, in a Cleanup from before NewContainer.
func WithCgroup(dir *os.File) Option {
	return func(c *config) { c.cgroup = dir }
}

// into has the process start in the cgroup if it is of version 2 (CLONE_INTO_CGROUP, clone(2)); see join.
func into(cgroup *os.File, attributes *syscall.SysProcAttr) *syscall.SysProcAttr {
	if cgroup != nil && !isVersion1(cgroup) {
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(cgroup.Fd())
	}
	return attributes
}

// join moves the process that was started into the cgroup if it is of version 1.
func join(cgroup *os.File, pid int) error {
	if cgroup == nil || !isVersion1(cgroup) {
		return nil
	}
	return os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/cgroup.procs", cgroup.Fd()), []byte(strconv.Itoa(pid)), 0)
}

func isVersion1(cgroup *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(cgroup.Fd()), &fs) == nil && fs.Type == unix.CGROUP_SUPER_MAGIC
}
