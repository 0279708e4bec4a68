package main

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// fuseNode is a tmpfs of the host with the node fuse, which a container may open.
func fuseNode(t *testing.T) *os.File {
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

// TestFUSE has a file whose server, the caller, never answers who closes it.
func TestFUSE(t *testing.T) {
	c, _ := newContainer(t, sdktest.WithMount(fuseNode(t), "/mnt/host"), sdktest.WithDeadline(2*time.Second))
	got := c.Run(t, c.Install(t, buildClient(t)), "fuse", "/top/own")
	if want := "attach: invalid argument\ndetach: bad file descriptor\nquery: bad file descriptor\n"; got.Stdout != want {
		t.Errorf("got\n%swant\n%s%s", got.Stdout, want, got.Stderr)
	}
}

// TestRoomRace has many threads attach at once.
func TestRoomRace(t *testing.T) {
	c, tr := newContainer(t)
	got := c.Run(t, c.Install(t, buildClient(t)), "race", "/top/own")
	if want := fmt.Sprintf("attached: %d\n", maxAttached); got.Stdout != want {
		t.Errorf("got\n%swant\n%s%s", got.Stdout, want, got.Stderr)
	}
	if n := len(tr.attached(t, "own").programs); n != maxAttached {
		t.Errorf("%d programs are attached", n)
	}
}
