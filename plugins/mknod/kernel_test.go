package mknod

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

func TestScripts(t *testing.T) {
	sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{On: map[string]sdktest.Environment{
		"tmpfs":       onTmpfs(0),
		"nodev-tmpfs": onTmpfs(unix.MOUNT_ATTR_NODEV),
		"fuse":        withFUSE,
	}})
}

// onTmpfs has a tmpfs of the host on /mnt/host.
func onTmpfs(attributes int) sdktest.Environment {
	return func(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
		t.Helper()
		return new(sdktest.WithMount(sdktest.Tmpfs(t, attributes), "/mnt/host"))
	}
}

// withFUSE has /dev/fuse.
func withFUSE(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	c := new()
	node := filepath.Join(c.Rootfs(), "dev/fuse")
	if err := errors.Join(unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))), unix.Chmod(node, 0o666)); err != nil {
		t.Fatal(err)
	}
	return c
}

// null are the arguments of a call that makes /dev/null.
const null = " S_IFCHR|0666 dev:1:3"
