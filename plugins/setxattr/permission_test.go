package setxattr

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// hostsFiles are directories that the host makes in /mnt: owner, group, and the value of the attribute.
var hostsFiles = map[string]struct {
	uid, gid int
	value    string
}{
	"other's":                   {sdktest.HostID + 5, sdktest.HostID, none},
	"host's":                    {0, 0, none},
	"host's-user":               {1000, 1000, none},
	"host's-before":             {sdktest.HostID - 1, sdktest.HostID, none},
	"host's-after":              {sdktest.HostID + sdktest.IDCount, sdktest.HostID, none},
	"host's-of-own-group":       {0, sdktest.HostID, none},
	"nobody":                    {65534, 65534, none},
	"own-of-host's-group":       {sdktest.HostID, 0, none},
	"own-of-group-after":        {sdktest.HostID, sdktest.HostID + sdktest.IDCount, none},
	"other's-of-nobody's-group": {sdktest.HostID + 5, 65534, none},

	"hidden-longer": {sdktest.HostID, sdktest.HostID, "yes"},
	"hidden-other":  {sdktest.HostID, sdktest.HostID, "n"},
	"hidden-empty":  {sdktest.HostID, sdktest.HostID, ""},
	"hidden-host's": {0, 0, "y"},
}

// none stands for the value of an attribute that is not there.
const none = "none"

// withHostsFiles has hostsFiles, whose attributes must be the same afterwards, and a device node that the container
// owns.
func withHostsFiles(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	c := new()
	for name, f := range hostsFiles {
		dir := hostDirectory(t, c, "/mnt/"+name, f.uid, f.gid)
		if f.value == none {
			continue
		}
		if err := unix.Setxattr(dir, opaqueName, []byte(f.value), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for name, f := range hostsFiles {
			if got := attribute(filepath.Join(c.Rootfs(), "mnt", name)); got != f.value {
				t.Errorf("/mnt/%s: the host finds the attribute %s afterwards, want %s", name, got, f.value)
			}
		}
	})
	device, owner := filepath.Join(c.Rootfs(), "mnt/device"), rootOf(c)
	if err := errors.Join(unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(240, 3))), os.Chown(device, owner, owner)); err != nil {
		t.Fatal(err)
	}
	return c
}

// attribute is the attribute's value on the host, none, or the error.
func attribute(name string) string {
	value := make([]byte, 10)
	n, err := unix.Lgetxattr(name, opaqueName, value)
	if err == unix.ENODATA {
		return none
	}
	if err != nil {
		return err.Error()
	}
	return string(value[:n])
}

// rootOf is the host's number of a container's root.
func rootOf(c *sdktest.Container) int {
	return int(c.Identity().UIDMap[0].Outside)
}

// hostDirectory makes a directory in a container with an owner of the host's, and returns its path on the host.
func hostDirectory(t testing.TB, c *sdktest.Container, name string, uid, gid int) string {
	t.Helper()
	dir := filepath.Join(c.Rootfs(), name)
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Chown(dir, uid, gid), unix.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Flags of files (FS_IMMUTABLE_FL, FS_APPEND_FL, include/uapi/linux/fs.h).
const (
	immutable  = 0x10
	appendOnly = 0x20
)

// withFileFlags has directories of the container's root with such flags in /mnt.
func withFileFlags(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	c := new()
	for name, flag := range map[string]int{"immutable": immutable, "append-only": appendOnly} {
		setFileFlags(t, hostDirectory(t, c, "/mnt/"+name, rootOf(c), rootOf(c)), flag)
	}
	return c
}

// setFileFlags sets a file's flags until the end of the test (ioctl_iflags(2)).
func setFileFlags(t testing.TB, name string, flags int) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, 0)
		file.Close()
	})
	if err := unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags); err != nil {
		sdktest.Lacking(t, "%s takes no file flags: %v", name, err)
	}
}

// TestHostProcfs has the host's procfs in the container, as with a pid namespace shared with the host. The plugin is a
// process there, whose root and descriptors are not the caller's: no path of the caller leads to them, not even to
// files that would be the caller's own.
func TestHostProcfs(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chown(outside, sdktest.HostID, sdktest.HostID); err != nil {
		t.Fatal(err)
	}
	number := strconv.Itoa(sdktest.PluginDescriptor(t, outside))
	c := sdktest.NewContainer(t, sdktest.InProcess(handler{}), reading, sdktest.WithMount(sdktest.HostProcfs(t), "/mnt/host"))
	for _, self := range []string{"self", "thread-self"} {
		host := "sys setxattr s:/mnt/host/" + self
		got := c.Call(t, "mkdir /tmp/"+self, "chdir /tmp/"+self,
			host+"/root"+outside+opaqueY, host+"/fd/"+number+opaqueY, host+"/cwd"+opaqueY, "sys getxattr s:."+getInto).Lines(t)
		if got, want := sdktest.Errnos(got), "ENOENT ENOENT ok ok"; got != want {
			t.Errorf("%s: got %s, want %s", self, got, want)
		}
	}
	if got := attribute(outside); got != none {
		t.Errorf("outside there is the attribute %s", got)
	}
}
