package setxattr

import (
	"errors"
	"os"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// withFUSE has a device of the host by which a container can serve a filesystem.
func withFUSE(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	return new(sdktest.WithMount(deviceMount(t), "/mnt/host"))
}

// deviceMount is a tmpfs of the host with the node fuse, which a container may open.
func deviceMount(t testing.TB) *os.File {
	t.Helper()
	sdktest.RequireRoot(t)
	mount := sdktest.Tmpfs(t, 0)
	err := errors.Join(
		unix.Mknodat(int(mount.Fd()), "fuse", unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))),
		unix.Fchmodat(int(mount.Fd()), "fuse", 0o666, 0))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Openat(int(mount.Fd()), "fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		sdktest.Lacking(t, "needs /dev/fuse: %v", err)
	}
	unix.Close(fd)
	return mount
}
