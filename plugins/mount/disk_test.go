package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

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
