package sdktest

import (
	"os"
	"syscall"
)

// WithCgroup puts the container into a cgroup of the v2 hierarchy: dir is its directory, open until NewContainer returns. It
// stays the test's to remove, in a Cleanup from before NewContainer.
func WithCgroup(dir *os.File) Option {
	return func(c *config) { c.cgroup = dir }
}

// into has the process start in the cgroup (CLONE_INTO_CGROUP, clone(2)); nil: in this process's.
func into(cgroup *os.File, attributes *syscall.SysProcAttr) *syscall.SysProcAttr {
	if cgroup != nil {
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(cgroup.Fd())
	}
	return attributes
}
