package attacks

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// putDisk makes a disk with ext4, and a device node of it.
func (a *attack) putDisk(node string) {
	a.Helper()
	image := filepath.Join(a.TempDir(), "disk")
	a.Command("truncate", "-s", "16M", image)
	a.Command("mkfs.ext4", "-q", image)
	device := strings.TrimSpace(a.Command("losetup", "--find", "--show", image))
	a.Cleanup(func() { a.Command("losetup", "--detach", device) })
	var st unix.Stat_t
	if err := errors.Join(unix.Stat(device, &st), unix.Mknod(node, unix.S_IFBLK|0o600, int(st.Rdev)), os.Chmod(node, 0o666)); err != nil {
		a.Fatal(err)
	}
}

// command runs a program of the host, which must succeed, and gives what it printed.
func (a *attack) command(name string, args ...string) string {
	a.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		a.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return string(output)
}
