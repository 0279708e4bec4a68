package bench

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// nativeDir is where ServeNative makes its root filesystem, in a mount namespace of its own.
const nativeDir = "/tmp"

// ServeNative is ServeCaller for root of the host, in a mount namespace of its own: the root filesystem is, as a
// container's, an overlay on the host's files, so that nothing on the host is changed.
func ServeNative(args []string, in io.Reader, out io.Writer) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", nativeDir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(nativeDir+"/"+dir, 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=/,upperdir=%[1]s/upper,workdir=%[1]s/work", nativeDir)
	if err := unix.Mount("overlay", nativeDir+"/root", "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	if err := unix.Chroot(nativeDir + "/root"); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return ServeCaller(args, in, out)
}
