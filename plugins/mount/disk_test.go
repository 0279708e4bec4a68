package mount

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// run runs a program of the host.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// need skips the test where a program is not installed.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		sdktest.Lacking(t, "needs %s", program)
	}
}

// image makes an empty image file.
func image(t testing.TB, size int64) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "image")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return file.Name()
}

// loop makes a block device of an image.
func loop(t testing.TB, image string, options ...string) string {
	t.Helper()
	need(t, "losetup")
	device := run(t, "losetup", append(options, "--find", "--show", image)...)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device
}

// ext4 is an image with a filesystem, made with these options of mkfs.
func ext4(t testing.TB, options ...string) string {
	t.Helper()
	need(t, "mkfs.ext4")
	name := image(t, 16<<20)
	run(t, "mkfs.ext4", append(options, "-q", "-F", name)...)
	return name
}

// squashfs is an image with an empty filesystem.
func squashfs(t testing.TB) string {
	t.Helper()
	need(t, "mksquashfs")
	name := filepath.Join(t.TempDir(), "squash")
	run(t, "mksquashfs", t.TempDir(), name, "-quiet")
	return name
}

// putNode makes a node of the host's device in a container, owned by an id of the host.
func putNode(t testing.TB, c *sdktest.Container, device, name string, mode uint32, owner int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Rootfs(), name)
	if err := unix.Mknod(path, unix.S_IFBLK|mode, int(st.Rdev)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, os.FileMode(mode)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, owner, owner); err != nil {
		t.Fatal(err)
	}
}

// deviceOf is the number of a host's device.
func deviceOf(t testing.TB, device string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	return uint64(st.Rdev)
}

// ofHost is the owner of a node that belongs to the host's root.
const ofHost = -1

// withDisk is a container with an ext4 filesystem, made with these options of mkfs, on the device /dev/disk, of this
// mode and this owner in the container. In the end nothing must hold the device.
func withDisk(mode uint32, owner int, mkfs ...string) sdktest.Environment {
	return func(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
		t.Helper()
		device := loop(t, ext4(t, mkfs...))
		t.Cleanup(func() { free(t, device) })
		c := new()
		id := 0
		if owner != ofHost {
			id = int(c.Identity().UIDMap[0].Outside) + owner
		}
		putNode(t, c, device, "dev/disk", mode, id)
		return c
	}
}

// oneDisk is a container with a device by the name /dev/disk.
func oneDisk(t *testing.T) (*sdktest.Container, string) {
	t.Helper()
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(allowed), sdktest.WithDeadline(patience)) // for a slow disk
	device := loop(t, ext4(t))
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	return c, device
}

// allowed are settings with ext4.
var allowed = map[string]any{"allowed": []string{"ext4", "ext2"}}

const mountDisk = "sys mount s:/dev/disk s:m s:ext4 0 null"

// within are scripts in a directory and a mount namespace of their own.
func within(script ...string) []string {
	return append([]string{"unshare mount", "mount tmpfs none /tmp 0 -", "chdir /tmp", "mkdir m"}, script...)
}

// expect runs a script: the errors of its calls, and how those after the first, the mount of the tmpfs, were answered.
func expect(t *testing.T, c *sdktest.Container, errors, answers string, script ...string) {
	t.Helper()
	result := c.Call(t, within(script...)...)
	if got := sdktest.Errnos(result.Lines(t)); got != errors {
		t.Errorf("%q: got %s, want %s", script, got, errors)
	}
	if got := strings.TrimSpace(strings.TrimPrefix(result.Kinds(), "next")); got != answers {
		t.Errorf("%q: answered by %q, want %q: %v", script, got, answers, result.Calls)
	}
}
