package capture

import (
	"strconv"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// newNodeTmpfs makes a tmpfs for one device node. A plugin that could make a superblock itself could make one of any
// filesystem of the kernel's, such as sysfs.
func newNodeTmpfs(group uint32) (int, unix.Errno) {
	mount, err := linux.NewMount("tmpfs", map[string]string{
		"source": "intercede", "mode": "2777", "gid": strconv.FormatUint(uint64(group), 10), "nr_inodes": "2", "size": "4k",
	}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return -1, toErrno(err)
	}
	defer mount.Close()
	fd, err := unix.FcntlInt(mount.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return fd, toErrno(err)
}
