package stage

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// PutDisk makes a disk with ext4, and a device node of it.
func (t *Test) PutDisk(node string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	t.Command("truncate", "-s", "16M", image)
	t.Command("mkfs.ext4", "-q", image)
	device := strings.TrimSpace(t.Command("losetup", "--find", "--show", image))
	t.Cleanup(func() { t.Command("losetup", "--detach", device) })
	var st unix.Stat_t
	if err := errors.Join(unix.Stat(device, &st), unix.Mknod(node, unix.S_IFBLK|0o600, int(st.Rdev)), os.Chmod(node, 0o666)); err != nil {
		t.Fatal(err)
	}
}
