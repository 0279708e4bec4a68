package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// refused runs a script in a container with the plugin and in one without: each call gets the error wanted, and the same in
// both.
func refused(t *testing.T, want string, script ...string) {
	t.Helper()
	script = inOwnDirectory(t, script)
	got := sdktest.NewContainer(t, handler{}, reading).Call(t, script...)
	without := sdktest.NewContainer(t, nil).Call(t, script...)
	if outcome := sdktest.Errnos(got.Lines(t)); outcome != want {
		t.Errorf("the caller gets %s, want %s", outcome, want)
	}
	if outcome := sdktest.Errnos(without.Lines(t)); outcome != want {
		t.Errorf("without the plugin the caller gets %s, want %s", outcome, want)
	}
	for _, c := range got.Calls {
		if c.Outcome.Kind != sdktest.Continue {
			t.Errorf("%s was answered by %v", c.Syscall, c.Outcome)
		}
	}
}

// TestUnprivileged have no CAP_SYS_ADMIN in the container's user namespace.
func TestUnprivileged(t *testing.T) {
	for name, script := range map[string][]string{
		"no-capability":       {"dropcap 21"},
		"user":                {"do chown s:d 8 7", "do chown s:f 8 7", "setgid 7", "setuid 8"},
		"nested-root":         {"unshare user"},
		"nested-own-tmpfs":    {"unshare user", "unshare mount", "mount tmpfs none . 0 -", "chdir /tmp/nested-own-tmpfs", "mkdir d", "write f x"},
		"thread-unprivileged": {"thread", "dropcap 21"},
		"child-unprivileged":  {"fork", "dropcap 21"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, "EPERM EPERM EPERM EPERM ENODATA EPERM ENOENT", append(script, "open d O_RDONLY", "sys setxattr s:d"+opaqueY, "sys lsetxattr s:f"+opaqueY, "sys fsetxattr @0"+opaqueY,
				"sys setxattrat AT_FDCWD s:d 0"+opaque+args, "sys getxattr s:d"+getInto, "sys removexattr s:d"+opaque, "sys setxattr s:no"+opaqueY)...)
		})
	}
}

// asUser makes the rest of a script a user's who keeps root's capabilities, less those that reach files of others.
func asUser(script ...string) []string {
	return append([]string{"do prctl PR_SET_SECUREBITS 4", "setgroups -", "setgid 7", "setuid 8", "dropcap 1", "dropcap 2", "dropcap 3"}, script...)
}

func TestPermissions(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"own-file-of-a-user":  {append([]string{"do chown s:d 8 7"}, asUser("sys setxattr s:d"+opaqueY, "sys getxattr s:d"+getInto)...), "ok ok", "value value"},
		"not-readable":        {append([]string{"do chown s:d 8 7", "do chmod s:d 0"}, asUser("sys setxattr s:d"+opaqueY, "sys getxattr s:d"+getInto, "sys removexattr s:d"+opaque)...), "ok ok ok", "value value value"},
		"not-searchable":      {append([]string{"do mkdir s:p 0700", "mkdir p/d", "do chown s:p/d 8 7"}, asUser("sys setxattr s:p/d"+opaqueY, "sys lsetxattr s:p/no"+opaqueY, "sys getxattr s:p/d/../d"+getInto)...), "EACCES EACCES EACCES", "continue continue continue"},
		"search-by-group":     {append([]string{"do mkdir s:p 0710", "do chmod s:p 0710", "mkdir p/d", "do chown s:p/d 8 7", "do chown s:p 5 7"}, asUser("sys setxattr s:p/d"+opaqueY)...), "ok", "value"},
		"search-by-power":     {[]string{"do mkdir s:p 0700", "mkdir p/d", "do chown s:p 5 5", "do chown s:p/d 5 5", "sys setxattr s:p/d" + opaqueY, "sys setxattr s:p/no" + opaqueY, "sys setxattr s:p/d/.." + opaqueY, "sys getxattr s:p/d" + getInto}, "ok ENOENT ok ok", "value continue value value"},
		"search-power-only":   {[]string{"do mkdir s:p 0700", "mkdir p/d", "do chown s:p 5 5", "dropcap 1", "sys setxattr s:p/d" + opaqueY}, "ok", "value"},
		"no-search-power":     {[]string{"do mkdir s:p 0700", "mkdir p/d", "do chown s:p 5 5", "dropcap 1", "dropcap 2", "sys setxattr s:p/d" + opaqueY}, "EACCES", "continue"},
		"descriptor-of-other": {append([]string{"do mkdir s:p 0700", "mkdir p/d", "do chown s:p/d 8 7", "open p/d O_RDONLY"}, asUser("sys fsetxattr @0"+opaqueY, "sys fgetxattr @0"+getInto)...), "ok ok", "value value"},
		"owner-power":         {[]string{"do chown s:d 5 5", "sys setxattr s:d" + opaqueY, "sys getxattr s:d" + getInto}, "ok ok", "value value"},
		"fsuid":               {[]string{"do chown s:d 5 5", "do chmod s:d 0700", "do prctl PR_SET_SECUREBITS 4", "do setfsuid 5", "sys setxattr s:d" + opaqueY}, "ok", "value"},
	})
}

// TestOwners have no CAP_FOWNER, or files of the host. Real root could change those, since the kernel asks for CAP_SYS_ADMIN
// alone; a caller in a container is refused as without the plugin.
func TestOwners(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, reading)
	for name, test := range map[string]struct {
		uid, gid int
		drop     string
		want     string
	}{
		"own":                  {sdktest.HostID, sdktest.HostID, "dropcap 3", "ok"},
		"own-other-group":      {sdktest.HostID, sdktest.HostID + 9, "dropcap 3", "ok"},
		"other's":              {sdktest.HostID + 5, sdktest.HostID, "dropcap 3", "EPERM"},
		"other's-by-power":     {sdktest.HostID + 5, sdktest.HostID + 5, "umask 022", "ok"},
		"last-id":              {sdktest.HostID + sdktest.IDCount - 1, sdktest.HostID + sdktest.IDCount - 1, "umask 022", "ok"},
		"host's":               {0, 0, "umask 022", "EPERM"},
		"host's-user":          {1000, 1000, "umask 022", "EPERM"},
		"host's-before":        {sdktest.HostID - 1, sdktest.HostID, "umask 022", "EPERM"},
		"host's-behind":        {sdktest.HostID + sdktest.IDCount, sdktest.HostID, "umask 022", "EPERM"},
		"own-of-host's-group":  {sdktest.HostID, 0, "umask 022", "EPERM"},
		"host's-of-own-group":  {0, sdktest.HostID, "umask 022", "EPERM"},
		"nobody":               {65534, 65534, "umask 022", "EPERM"},
		"own-group-behind":     {sdktest.HostID, sdktest.HostID + sdktest.IDCount, "umask 022", "EPERM"},
		"other's-without-gids": {sdktest.HostID + 5, 65534, "umask 022", "EPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := hostDirectory(t, c, filepath.Base(t.Name()), test.uid, test.gid)
			got := c.Call(t, test.drop, "open "+dir+" O_RDONLY", "sys setxattr s:"+dir+opaqueY, "sys fsetxattr @0"+opaqueY, "sys setxattr s:/proc/self/fd/3"+opaqueY, "sys lsetxattr s:"+dir+"/"+opaqueY).Lines(t)
			if outcome, want := sdktest.Errnos(got), times(4, test.want); outcome != want {
				t.Errorf("the caller gets %s, want %s", outcome, want)
			}
			attribute := make([]byte, 2)
			n, err := unix.Lgetxattr(filepath.Join(c.Rootfs(), dir), "trusted.overlay.opaque", attribute)
			if test.want == "ok" && (err != nil || string(attribute[:n]) != "y") || test.want != "ok" && err != unix.ENODATA {
				t.Errorf("the host finds %q, %v", attribute[:max(n, 0)], err)
			}
		})
	}
}

// TestHiddenAttributes have values of the host that are not listed: they stay hidden, and where they are.
func TestHiddenAttributes(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, reading)
	for name, test := range map[string]struct {
		uid   int
		value string
	}{"longer": {sdktest.HostID, "yes"}, "other": {sdktest.HostID, "n"}, "empty": {sdktest.HostID, ""}, "host's": {0, "y"}} {
		t.Run(name, func(t *testing.T) {
			dir := hostDirectory(t, c, filepath.Base(t.Name()), test.uid, test.uid)
			onHost := filepath.Join(c.Rootfs(), dir)
			if err := unix.Setxattr(onHost, "trusted.overlay.opaque", []byte(test.value), 0); err != nil {
				t.Fatal(err)
			}
			got := c.Call(t, "sys getxattr s:"+dir+getInto, "sys getxattr s:"+dir+opaque+" null 0", "sys removexattr s:"+dir+opaque)
			if outcome, want := sdktest.Errnos(got.Lines(t)), "ENODATA ENODATA EPERM"; outcome != want {
				t.Errorf("the caller gets %s, want %s", outcome, want)
			}
			if n, err := unix.Getxattr(onHost, "trusted.overlay.opaque", make([]byte, 10)); err != nil || n != len(test.value) {
				t.Errorf("afterwards it has %d bytes, %v", n, err)
			}
		})
	}
}

// hostDirectory makes a directory in the container's /tmp with an owner of the host's.
func hostDirectory(t *testing.T, c *sdktest.Container, name string, uid, gid int) string {
	t.Helper()
	dir := filepath.Join(c.Rootfs(), "tmp", name)
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Chown(dir, uid, gid), unix.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return "/tmp/" + name
}

// TestSpecialFiles are of the host's making; nothing of them is opened.
func TestSpecialFiles(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, reading)
	device := filepath.Join(c.Rootfs(), "tmp/console")
	if err := errors.Join(unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(240, 3))), os.Chown(device, sdktest.HostID, sdktest.HostID)); err != nil {
		t.Fatal(err)
	}
	if got, want := sdktest.Errnos(c.Call(t, "sys setxattr s:/tmp/console"+opaqueY, "sys getxattr s:/tmp/console"+getInto).Lines(t)), "ok ok"; got != want {
		t.Errorf("the caller gets %s, want %s", got, want)
	}
}

// Flags of files (FS_IMMUTABLE_FL, FS_APPEND_FL, include/uapi/linux/fs.h).
const (
	immutable  = 0x10
	appendOnly = 0x20
)

// TestImmutable is a file that nobody may change (chattr +i), and one that may only grow (chattr +a).
func TestImmutable(t *testing.T) {
	for flag, letter := range map[int]string{immutable: "immutable", appendOnly: "append"} {
		t.Run(letter, func(t *testing.T) {
			for _, root := range []*sdktest.Container{sdktest.NewContainer(t, handler{}, reading), sdktest.NewContainer(t, nil, sdktest.WithRealRoot())} {
				id := int(root.Identity().UIDMap[0].Outside)
				dir := hostDirectory(t, root, letter, id, id)
				setFileFlags(t, filepath.Join(root.Rootfs(), dir), flag)
				got := root.Call(t, "sys setxattr s:"+dir+opaqueY, "sys removexattr s:"+dir+opaque)
				if outcome, want := sdktest.Errnos(got.Lines(t)), "EPERM EPERM"; outcome != want {
					t.Errorf("the caller gets %s, want %s", outcome, want)
				}
			}
		})
	}
}

// setFileFlags sets a file's flags until the end of the test (ioctl_iflags(2)).
func setFileFlags(t *testing.T, name string, flags int) {
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
// process there, whose root and descriptors are not the caller's: no path of the caller leads to them, not even to files
// that would be the caller's own.
func TestHostProcfs(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chown(outside, sdktest.HostID, sdktest.HostID); err != nil {
		t.Fatal(err)
	}
	number := strconv.Itoa(sdktest.PluginDescriptor(t, outside))
	c := sdktest.NewContainer(t, sdktest.InProcess(handler{}), reading, sdktest.WithMount(sdktest.HostProcfs(t), "/mnt/host"))
	for _, self := range []string{"self", "thread-self"} {
		script := inOwnDirectory(t, []string{
			"sys setxattr s:/mnt/host/" + self + "/root" + outside + opaqueY, "sys setxattr s:/mnt/host/" + self + "/fd/" + number + opaqueY,
			"chdir d", "sys setxattr s:/mnt/host/" + self + "/cwd" + opaqueY, "sys getxattr s:." + getInto})
		script[1], script[2] = "mkdir /tmp/"+self, "chdir /tmp/"+self
		if got, want := sdktest.Errnos(c.Call(t, script...).Lines(t)), "ENOENT ENOENT ok ok"; got != want {
			t.Errorf("%s: got %s, want %s", self, got, want)
		}
	}
	if _, err := unix.Getxattr(outside, "trusted.overlay.opaque", nil); err != unix.ENODATA {
		t.Errorf("outside: %v", err)
	}
}
