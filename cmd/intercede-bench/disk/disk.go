// Package disk makes a disk for containers to mount.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// Major is that of loop devices.
	Major = 7

	size = 8 << 20
)

// Disk is an ext4 filesystem in a file, and a loop device of it (loop(4)).
type Disk struct {
	Image string
	Minor uint32
	loop  *os.File
}

// New makes one in a folder of the root filesystem, which the containers of `intercede run` see too. The folder becomes
// one that everybody may search.
func New(ctx context.Context, dir string) (d Disk, err error) {
	d.Image = filepath.Join(dir, "image")
	// Everybody may read it: on a host whose root is an overlay its files are nobody's in the containers.
	if err := errors.Join(os.Chmod(dir, 0o711), os.WriteFile(d.Image, nil, 0o644)); err != nil {
		return Disk{}, err
	}
	if err := os.Truncate(d.Image, size); err != nil {
		return Disk{}, err
	}
	if text, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", d.Image).CombinedOutput(); err != nil {
		return Disk{}, fmt.Errorf("mkfs.ext4: %w: %s", err, strings.TrimSpace(string(text)))
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return Disk{}, err
	}
	defer control.Close()
	image, err := os.OpenFile(d.Image, os.O_RDWR, 0)
	if err != nil {
		return Disk{}, err
	}
	defer image.Close()
	for range 16 { // others take loop devices too
		if err = d.attach(control, image); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return d, err
}

// attach makes a free loop device that of the image. It ends when nobody has it open.
func (d *Disk) attach(control, image *os.File) error {
	minor, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return fmt.Errorf("find a loop device: %w", err)
	}
	loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", minor), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	config := unix.LoopConfig{Fd: uint32(image.Fd())}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		loop.Close()
		return fmt.Errorf("configure loop device %d: %w", minor, err)
	}
	d.Minor, d.loop = uint32(minor), loop
	return nil
}

// Rule lets a container open the device, and Node is how the plugin mknod is told that it may be made.
func (d Disk) Rule() string { return fmt.Sprintf("b %d:%d rw", Major, d.Minor) }
func (d Disk) Node() string { return fmt.Sprintf("b %d:%d", Major, d.Minor) }

// Close gives the loop device back, once nothing has it mounted. The image stays.
func (d Disk) Close() {
	if d.loop != nil {
		d.loop.Close()
	}
}
