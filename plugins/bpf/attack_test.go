package bpf

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
	if err := errors.Join(
		unix.Mknodat(int(mount.Fd()), "fuse", unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))),
		unix.Fchmodat(int(mount.Fd()), "fuse", 0o666, 0),
	); err != nil {
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
	c, _ := enabledContainer(t, sdktest.WithMount(fuseNode(t), "/mnt/host"), sdktest.WithDeadline(6*time.Second))
	got := c.Run(t, c.Install(t, buildClient(t)), "fuse", "/top/own")
	if want := "attach: invalid argument\ndetach: bad file descriptor\nquery: bad file descriptor\n"; got.Stdout != want {
		t.Errorf("got\n%swant\n%s%s", got.Stdout, want, got.Stderr)
	}
}

// TestRoomRace has many threads attach at once.
func TestRoomRace(t *testing.T) {
	c, tr := enabledContainer(t)
	got := c.Run(t, c.Install(t, buildClient(t)), "race", "/top/own")
	if want := fmt.Sprintf("attached: %d\n", maxAttached); got.Stdout != want {
		t.Errorf("got\n%swant\n%s%s", got.Stdout, want, got.Stderr)
	}
	if n := len(tr.attached(t, "own").programs); n != maxAttached {
		t.Errorf("%d programs are attached", n)
	}
}

func TestParseProgramInfo(t *testing.T) {
	for info, want := range map[string]uint32{
		"pos:\t0\nflags:\t02000002\nprog_type:\t15\nprog_jited:\t1\nmemlock:\t4096\nprog_id:\t77\nrun_time_ns:\t0\n": 77,
		"pos:\t0\nlink_type:\tcgroup\nlink_id:\t3\nprog_tag:\tab\nprog_id:\t77\n":                                    0,
		"prog_type:\t15\nprog_id:\t4294967296\n":                                                                     0,
		"prog_type:\t15\nprog_id:\n":                                                                                 0,
		"prog_id:\t77\nprog_type:\t15\n":                                                                             0,
		"":                                                                                                           0,
	} {
		if p, ok := parseProgramInfo(info); ok != (want != 0) || ok && p != (programInfo{want, true}) {
			t.Errorf("%q is program %+v, %v, want %d", info, p, ok, want)
		}
	}
}
