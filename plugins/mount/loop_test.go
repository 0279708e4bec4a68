package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// withLoopDevices is a container with nodes of a loop device that the host uses and of a free one, and with images: its
// own, and one of the host's. It has no /dev/loop-control.
func withLoopDevices(t *testing.T) (c *sdktest.Container, free string) {
	t.Helper()
	number := reserve(t, 1)[0] // one that losetup finds may be taken by anybody
	free = fmt.Sprintf("/dev/loop%d", number)
	c = sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"allowed": []string{"ext4"}, "shift": true}))
	used := loop(t, ext4(t))
	putNode(t, c, used, used, 0o600, sdktest.HostID)
	node := filepath.Join(c.Rootfs(), free)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(node, sdktest.HostID, sdktest.HostID); err != nil {
		t.Fatal(err)
	}
	putFile(t, c, ext4(t), "image")
	foreign := filepath.Join(c.Rootfs(), "foreign")
	copyFile(t, ext4(t), foreign)
	if err := os.Chmod(foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, free
}

// TestImage mounts an image by a loop device that is the container's, which mount(8) sets up by itself: the kernel asks
// for no capability, but that the caller can open device and file.
func TestImage(t *testing.T) {
	c, free := withLoopDevices(t)
	mount, umount := install(t, c, "mount"), install(t, c, "umount")
	r := c.Run(t, mount, "-t", "ext4", "-o", "loop="+free, "/image", "/mnt")
	if r.ExitCode != 0 {
		t.Fatalf("mount: %+v", r)
	}
	closeCopies(r)
	result := c.Call(t, "write /mnt/new text", "openfile /mnt/new O_RDONLY")
	if got := sdktest.Errnos(result.Lines(t)); got != "ok" {
		t.Errorf("got %s", got)
	}
	if r := c.Run(t, mount, "-t", "ext4", "-o", "loop="+free, "/foreign", "/tmp"); r.ExitCode == 0 {
		t.Errorf("a file of the host: %+v", r)
	}
	if r := c.Run(t, umount, "/mnt"); r.ExitCode != 0 {
		t.Errorf("umount: %+v", r)
	}
}

// TestLosetup sets the device up and down.
func TestLosetup(t *testing.T) {
	c, free := withLoopDevices(t)
	losetup := install(t, c, "losetup")
	if r := c.Run(t, losetup, "--partscan", free, "/image"); r.ExitCode != 0 {
		t.Fatalf("losetup: %+v", r)
	}
	if r := c.Run(t, losetup, free, "/image"); r.ExitCode == 0 {
		t.Errorf("a device that is in use was taken: %+v", r)
	}
	if r := c.Run(t, losetup, "--detach", free); r.ExitCode != 0 {
		t.Errorf("detach: %+v", r)
	}
}
