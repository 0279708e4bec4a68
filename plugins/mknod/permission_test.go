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

// asUser makes the rest of a script a user's who keeps root's capabilities, less those that reach files of others.
func asUser(script ...string) []string {
	return append([]string{"do prctl PR_SET_SECUREBITS 4", "setgroups -", "setgid 7", "setuid 8", "dropcap 1", "dropcap 2"}, script...)
}

// TestUnprivileged have no CAP_MKNOD in the container's user namespace.
func TestUnprivileged(t *testing.T) {
	for name, script := range map[string][]string{
		"no-capability":       {"dropcap 27"},
		"user":                {"do chmod s:. 0777", "setgid 7", "setuid 8"},
		"nested-root":         {"unshare user"},
		"nested-own-tmpfs":    {"unshare user", "unshare mount", "mount tmpfs none . 0 -"},
		"effective-uid":       {"do chmod s:. 0777", "do setfsuid 8"},
		"thread-unprivileged": {"thread", "dropcap 27"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, nil, "EPERM EPERM ENOENT", append(script, "sys mknod s:n"+null, "sys mknodat AT_FDCWD s:./n"+null, "stat n")...)
		})
	}
}

func TestPermissions(t *testing.T) {
	p := newPair(t)
	p.run(t, map[string]scripted{
		"not-searchable":           {append([]string{"do mkdir s:d 0700", "mkdir d/e"}, asUser("sys mknod s:d/n"+null, "sys mknod s:d/e/n"+null, "sys mknod s:d/e/../n"+null, "sys mknod s:d/no/n"+null)...), "EACCES EACCES EACCES EACCES", "errno errno errno errno"},
		"not-writable":             {append([]string{"mkdir d", "write d/old x"}, asUser("sys mknod s:d/n"+null, "sys mknod s:d/old"+null, "sys mknod s:d/n/"+null, "sys mknod s:d/no/n"+null, "stat d/n")...), "EACCES EEXIST ENOENT ENOENT ENOENT", "errno errno errno errno"},
		"not-searchable-for-root":  {[]string{"do mkdir s:d 0700", "do chown s:d 5 5", "dropcap 1", "dropcap 2", "sys mknod s:d/n" + null, "stat d/n"}, "EACCES EACCES", "errno"},
		"writable-by-group":        {append([]string{"do mkdir s:d 0770", "do chmod s:d 0770", "do chown s:d 5 7"}, asUser("sys mknod s:d/n"+null, "stat d/n")...), "ok ok", "value"},
		"writable-by-other-group":  {[]string{"do mkdir s:d 0770", "do chmod s:d 0770", "do chown s:d 5 9", "do prctl PR_SET_SECUREBITS 4", "setgroups 3,9", "setgid 7", "setuid 8", "dropcap 1", "dropcap 2", "sys mknod s:d/n" + null, "stat d/n"}, "ok ok", "value"},
		"override":                 {[]string{"do mkdir s:d 0700", "do chown s:d 5 5", "sys mknod s:d/n" + null, "stat d/n", "mkdir d/e", "sys mknod s:d/e/n" + null}, "ok ok ok", "value value"},
		"override-of-a-user":       {[]string{"do mkdir s:d 0700", "do chown s:d 5 5", "do prctl PR_SET_SECUREBITS 4", "setuid 8", "sys mknod s:d/n" + null, "stat d/n"}, "ok ok", "value"},
		"override-own-directory":   {[]string{"do mkdir s:d 0500", "sys mknod s:d/n" + null, "stat d/n"}, "ok ok", "value"},
		"override-setgid":          {[]string{"do mkdir s:d 0700", "do chown s:d 5 5", "do chmod s:d 02700", "sys mknod s:d/n S_IFCHR|S_ISGID|0777 dev:1:3", "stat d/n"}, "ok ok", "value"},
		"override-missing":         {[]string{"do mkdir s:d 0700", "do chown s:d 5 5", "sys mknod s:d/no/n" + null, "do symlink s:l s:d/l", "sys mknod s:d/l/n" + null, "write d/f x", "sys mknod s:d/f/n" + null, "sys mknod s:d/f" + null, "sys mknod s:d/n/" + null}, "ENOENT ELOOP ENOTDIR EEXIST ENOENT", "errno errno errno errno errno"},
		"search-override":          {[]string{"do mkdir s:d 0755", "do mkdir s:d/e 0755", "write d/e/old x", "do chown s:d/e 5 5", "do chown s:d 5 5", "do chmod s:d 0700", "dropcap 1", "sys mknod s:d/e/n" + null, "sys mknod s:d/e/old" + null, "sys mknod s:d/e/n/" + null, "sys mknod s:d/no/n" + null, "stat d/e/n"}, "EACCES EEXIST ENOENT ENOENT ENOENT", "errno errno errno errno"},
		"search-override-and-mine": {[]string{"do mkdir s:d 0755", "do mkdir s:d/e 0700", "do chown s:d 5 5", "do chmod s:d 0700", "dropcap 1", "sys mknod s:d/e/n" + null, "stat d/e/n"}, "ok ok", "value"},
		"acl":                      {append([]string{"do mkdir s:d 0700", "do setxattr s:d s:system.posix_acl_access hex:0200000001000700ffffffff020007000800000004000000ffffffff10000700ffffffff20000000ffffffff 44 0"}, asUser("sys mknod s:d/n"+null, "stat d/n")...), "ok ok", "value"},
	})
}

// hostDirectory makes a directory in the container's /tmp whose owner, or group, is the host's, and a file old in it.
func hostDirectory(t *testing.T, c *sdktest.Container, name string, uid, gid int, mode uint32) string {
	t.Helper()
	dir := filepath.Join(c.Rootfs(), "tmp", name)
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+"/old", nil, 0o600), unix.Chown(dir, uid, gid), unix.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return "/tmp/" + name
}

// TestUnmapped has directories of the host, over which the container's root has no power. What it may do there, a regular
// file shows, which it makes without the plugin.
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

// TestProcfsCovered has something else mounted over what the plugin reads of a procfs: a FIFO that nobody writes, which
// must not hold anybody up.
func TestProcfsCovered(t *testing.T) {
	lines := sdktest.NewContainer(t, handler{}).Call(t, "chdir /tmp", "do mknod s:fifo S_IFIFO|0666 0",
		"mount none fifo /proc/thread-self/status MS_BIND -", "sys mknod s:/proc/self/cwd/n"+null).Lines(t)
	if lines[0].Errno != unix.ENOENT {
		t.Errorf("got %v", lines[0].Errno)
	}
}
