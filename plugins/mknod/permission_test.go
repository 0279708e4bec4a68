package mknod

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// hostDirectory makes a directory in the container's /tmp whose owner, or group, is the host's, and a file old in it.
func hostDirectory(t *testing.T, c *sdktest.Container, name string, uid, gid int, mode uint32) string {
	t.Helper()
	dir := filepath.Join(c.Rootfs(), "tmp", name)
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+"/old", nil, 0o600), unix.Chown(dir, uid, gid), unix.Chmod(dir, mode))
	if err != nil {
		t.Fatal(err)
	}
	return "/tmp/" + name
}

// TestUnmapped has directories of the host, over which the container's root has no power. What it may do there, a
// regular file shows, which it makes without the plugin.
func TestUnmapped(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	for name, d := range map[string]struct {
		uid, gid int
		mode     uint32
	}{
		"closed":          {0, 0, 0o700},
		"searchable":      {0, 0, 0o755},
		"open":            {0, 0, 0o777},
		"sticky":          {0, 0, 0o1777},
		"own-but-group":   {sdktest.HostID, 0, 0o700},
		"group-but-owner": {0, sdktest.HostID, 0o770},
		"other-and-group": {sdktest.HostID + 5, 0, 0o700},
		"owner-unmapped":  {0, sdktest.HostID + 5, 0o700},
		"setgid":          {sdktest.HostID, 0, 0o2777},
		"setgid-mapped":   {sdktest.HostID, sdktest.HostID + 5, 0o2777},
	} {
		t.Run(name, func(t *testing.T) {
			dir := hostDirectory(t, c, name, d.uid, d.gid, d.mode)
			lines := c.Call(t, "umask 0", "sys mknod s:"+dir+"/f S_IFREG|02770 0", "sys mknod s:"+dir+"/n S_IFCHR|02770 dev:1:3",
				"stat "+dir+"/f", "stat "+dir+"/n",
				"sys mknod s:"+dir+"/old S_IFREG 0", "sys mknod s:"+dir+"/old S_IFCHR dev:1:3",
				"sys mknod s:"+dir+"/no/n S_IFREG 0", "sys mknod s:"+dir+"/no/n S_IFCHR dev:1:3").Lines(t)
			for i := 0; i < len(lines); i += 2 {
				file, node := lines[i], lines[i+1]
				if file.Errno != node.Errno || file.Mode&^unix.S_IFMT != node.Mode&^unix.S_IFMT || file.UID != node.UID || file.GID != node.GID {
					t.Errorf("a file: %+v\na node: %+v", file, node)
				}
			}
		})
	}
}

// TestHostProcfs has the host's procfs in the container, as with a pid namespace shared with the host. The plugin is a
// process there, whose root, working directory and descriptors are the host's: no path of the caller leads to them.
func TestHostProcfs(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	number := strconv.Itoa(sdktest.PluginDescriptor(t, outside))
	c := sdktest.NewContainer(t, sdktest.InProcess(handler{}), sdktest.WithMount(sdktest.HostProcfs(t), "/mnt/host"))
	script := []string{"chdir /tmp"}
	for _, self := range []string{"self", "thread-self"} {
		script = append(script,
			"sys mknod s:/mnt/host/"+self+"/root"+outside+"/n"+null,
			"sys mknod s:/mnt/host/"+self+"/fd/"+number+"/n"+null,
			"sys mknod s:/mnt/host/"+self+"/cwd/mine-by-"+self+null, "stat mine-by-"+self)
	}
	lines := c.Call(t, script...).Lines(t)
	if got, want := sdktest.Errnos(lines), "ENOENT ENOENT ok ok ENOENT ENOENT ok ok"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := entries(t, outside); n != 0 {
		t.Errorf("the container made %d files outside", n)
	}
}
