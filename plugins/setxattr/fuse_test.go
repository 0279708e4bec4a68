package main

import (
	"errors"
	"os"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// deviceMount is a tmpfs of the host with the node fuse, which a container may open.
func deviceMount(t *testing.T) *os.File {
	t.Helper()
	sdktest.RequireRoot(t)
	mount := sdktest.Tmpfs(t, 0)
	if err := errors.Join(unix.Mknodat(int(mount.Fd()), "fuse", unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))), unix.Fchmodat(int(mount.Fd()), "fuse", 0o666, 0)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Openat(int(mount.Fd()), "fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		sdktest.Lacking(t, "needs /dev/fuse: %v", err)
	}
	unix.Close(fd)
	return mount
}

// TestFUSE has a filesystem whose server, the caller, answers nobody: who asks it anything waits for ever.
func TestFUSE(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, reading, sdktest.WithMount(deviceMount(t), "/mnt/host"))
	for name, options := range map[string]string{"private": "", "allow-other": ",allow_other"} {
		t.Run(name, func(t *testing.T) {
			got := c.Call(t, inOwnDirectory(t, []string{"open /mnt/host/fuse O_RDWR", "mount fuse none d 0 fd=3,rootmode=40000,user_id=0,group_id=0" + options, "open d O_PATH",
				"sys setxattr s:d" + opaqueY, "sys setxattr s:/proc/self/fd/4" + opaqueY, "sys fsetxattr @1" + opaqueY, "sys getxattr s:d" + getInto, "sys removexattr s:d" + opaque})...)
			if outcome, want := sdktest.Errnos(got.Lines(t)), "EPERM EPERM EBADF ENODATA EPERM"; outcome != want {
				t.Errorf("got %s, want %s", outcome, want)
			}
			if want := times(5, "continue"); got.Kinds() != want {
				t.Errorf("the calls were answered by %q, want %q", got.Kinds(), want)
			}
		})
	}
}
