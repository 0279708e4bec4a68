package setxattr

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

func TestScripts(t *testing.T) {
	sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{
		On: map[string]sdktest.Environment{
			"longest-name": withLongestName,
			"host-tmpfs":   onHostTmpfs,
			"hosts-files":  withHostsFiles,
			"file-flags":   withFileFlags,
			"fuse":         withFUSE,
		},
		Alike: withoutPointer,
	})
}

// withoutPointer leaves out the pointer with which struct xattr_args begins: it is another in each process.
func withoutPointer(l *sdktest.Line) {
	for _, b := range l.Bufs {
		if len(b) >= argsSize {
			clear(b[:8])
		}
	}
}

// withLongestName has attributes listed instead of the default ones: one with the longest name, and trusted.a.
func withLongestName(_ testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	longest := "trusted." + strings.Repeat("n", maxName-len("trusted."))
	return new(sdktest.WithSettings(map[string]any{"attributes": []string{longest + "==", "trusted.a=1"}, "read": true}))
}

// onHostTmpfs has filesystems whose superblocks belong to the host: one that is writable, and a read-only mount.
func onHostTmpfs(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	return new(sdktest.WithMount(sdktest.Tmpfs(t, 0), "/mnt/host"),
		sdktest.WithMount(sdktest.Tmpfs(t, unix.MOUNT_ATTR_RDONLY), "/mnt/ro"))
}

// reading switches the calls on that read and remove.
var reading = sdktest.WithSettings(map[string]any{"read": true})

// Parts of calls: the attribute, and its value and flags with it.
const (
	opaque   = " s:" + opaqueName
	opaqueY  = opaque + " s:y 1 0"
	getInto  = opaque + " buf:4 4"
	opaqueAt = opaque + " struct:p=s:y,4=1,4=0 16"
)
