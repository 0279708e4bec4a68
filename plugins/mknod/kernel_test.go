package mknod

import (
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

func TestScripts(t *testing.T) {
	sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{On: map[string]sdktest.Environment{
		"tmpfs":       onTmpfs(0),
		"nodev-tmpfs": onTmpfs(unix.MOUNT_ATTR_NODEV),
	}})
}

// onTmpfs has a tmpfs of the host on /mnt/host.
func onTmpfs(attributes int) sdktest.Environment {
	return func(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
		t.Helper()
		return new(sdktest.WithMount(sdktest.Tmpfs(t, attributes), "/mnt/host"))
	}
}

// null are the arguments of a call that makes /dev/null.
const null = " S_IFCHR|0666 dev:1:3"
