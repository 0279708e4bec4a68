package demo

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
	loopMajor            = 7
	fuseMajor, fuseMinor = 10, 229

	diskSize = 8 << 20
)

// disk is an ext4 filesystem in a file, and a loop device of it (loop(4)).
type disk struct {
	image string
	minor uint32
	loop  *os.File
}

// newDisk makes one in a folder of the root filesystem, which the containers see too.
func newDisk(ctx context.Context, dir string) (d disk, err error) {
	d.image = filepath.Join(dir, "image")
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return disk{}, err
	}
	if err := os.Truncate(d.image, diskSize); err != nil {
		return disk{}, err
	}
	if text, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		return disk{}, fmt.Errorf("mkfs.ext4: %w: %s", err, strings.TrimSpace(string(text)))
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return disk{}, err
	}
	defer control.Close()
	image, err := os.OpenFile(d.image, os.O_RDWR, 0)
	if err != nil {
		return disk{}, err
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
func (d *disk) attach(control, image *os.File) error {
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
	d.minor, d.loop = uint32(minor), loop
	return nil
}

func (d disk) close() {
	if d.loop != nil {
		d.loop.Close()
	}
}
