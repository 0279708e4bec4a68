package main

import (
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// runMounted runs the scripts on a tmpfs that the container mounted itself, with these flags and data.
func (p pair) runMounted(t *testing.T, flags, data string, tests map[string]scripted) {
	t.Helper()
	mounted := map[string]scripted{}
	for name, test := range tests {
		test.script = append([]string{"mkdir fs", "mount tmpfs none fs " + flags + " " + data, "chdir fs"}, test.script...)
		mounted[name] = test
	}
	p.run(t, mounted)
}

func TestOwnTmpfs(t *testing.T) {
	newPair(t).runMounted(t, "0", "mode=0755", map[string]scripted{
		"open":      {[]string{"sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n", "openfile n O_RDWR"}, "ok ok ok", "value"},
		"mknodat":   {[]string{"open . O_PATH", "chdir /", "sys mknodat @0 s:n S_IFCHR|0666 dev:1:5", "openfile /proc/self/fd/3/n O_RDONLY"}, "ok ok", "value"},
		"umask":     {[]string{"umask 077", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
		"bits":      {[]string{"umask 0", "sys mknod s:n S_IFCHR|07777 dev:1:3", "stat n"}, "ok ok", "value"},
		"exists":    {[]string{"sys mknod s:n S_IFCHR|0666 dev:1:3", "sys mknod s:n S_IFCHR|0666 dev:1:3", "write f x", "sys mknod s:f S_IFCHR dev:1:3"}, "ok EEXIST EEXIST", "value errno errno"},
		"slash":     {[]string{"sys mknod s:n/ S_IFCHR|0666 dev:1:3", "mkdir d", "sys mknod s:d/ S_IFCHR dev:1:3", "stat n"}, "ENOENT EEXIST ENOENT", "errno errno"},
		"symlink":   {[]string{"do symlink s:other s:n", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat other"}, "EEXIST ENOENT", "errno"},
		"directory": {[]string{"mkdir d", "sys mknod s:d/n S_IFCHR|0666 dev:1:3", "stat d/n", "openfile d/n O_RDWR"}, "ok ok ok", "value"},
		"missing":   {[]string{"sys mknod s:d/n S_IFCHR|0666 dev:1:3"}, "ENOENT", "errno"},
		"setgid-directory": {[]string{"mkdir d", "do chown s:d 0 12", "do chmod s:d 02777", "sys mknod s:d/n S_IFCHR|S_ISGID|0777 dev:1:3", "stat d/n", "openfile d/n O_RDWR"},
			"ok ok ok", "value"},
		"user": {[]string{"mkdir d", "do chown s:d 8 7", "do prctl PR_SET_SECUREBITS 4", "setgid 7", "setuid 8", "dropcap 1", "dropcap 2", "dropcap 21",
			"sys mknod s:d/n S_IFCHR|0600 dev:1:3", "stat d/n", "openfile d/n O_RDWR"}, "ok ok ok", "value"},
		"other's-directory": {[]string{"mkdir d", "do chown s:d 8 7", "dropcap 1", "dropcap 2", "sys mknod s:d/n S_IFCHR|0666 dev:1:3", "stat d/n"},
			"EACCES ENOENT", "errno"},
		"by-power": {[]string{"do mkdir s:d 0700", "do chown s:d 8 7", "sys mknod s:d/n S_IFCHR|0666 dev:1:3", "stat d/n", "openfile d/n O_RDWR"},
			"ok ok ok", "value"},
		"default-acl": {[]string{"umask 077", "do setxattr s:. s:system.posix_acl_default hex:0200000001000600ffffffff04000600ffffffff20000400ffffffff 28 0",
			"sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n"}, "ok ok", "value"},
	})
}

// TestOwnTmpfsSticky opens with O_CREAT, which the kernel refuses there for a node of another owner than the caller's or
// the directory's (may_create_in_sticky).
func TestOwnTmpfsSticky(t *testing.T) {
	newPair(t).runMounted(t, "0", "mode=1777,uid=3", map[string]scripted{
		"root": {[]string{"sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n", "openfile n O_RDWR|O_CREAT"}, "ok ok ok", "value"},
		"user": {[]string{"do prctl PR_SET_SECUREBITS 4", "setgid 7", "setuid 8", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n", "openfile n O_RDWR|O_CREAT"},
			"ok ok ok", "value"},
	})
}

// newPairOnTmpfs has a tmpfs of the host on /mnt/host in each container.
func newPairOnTmpfs(t *testing.T, attributes int) pair {
	t.Helper()
	mount := func() sdktest.Option { return sdktest.WithMount(sdktest.Tmpfs(t, attributes), "/mnt/host") }
	return pair{&sdktest.Pair{
		Container: sdktest.NewContainer(t, handler{}, mount()),
		Host:      sdktest.NewContainer(t, nil, sdktest.WithRealRoot(), mount()),
	}}
}

func TestNodevMount(t *testing.T) {
	newPair(t).runMounted(t, "MS_NODEV", "mode=0755", map[string]scripted{
		"own-tmpfs": {[]string{"sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n", "openfile n O_RDWR", "do unlink s:n"}, "ok ok EACCES", "value"},
	})
	newPairOnTmpfs(t, unix.MOUNT_ATTR_NODEV).run(t, map[string]scripted{
		"runtime's-tmpfs": {[]string{"chdir /mnt/host", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n", "openfile n O_RDWR", "do unlink s:n"},
			"ok ok EACCES", "value"},
	})
}

// TestHostTmpfs needs no cover: the superblock belongs to the host.
func TestHostTmpfs(t *testing.T) {
	newPairOnTmpfs(t, 0).run(t, map[string]scripted{
		"open": {[]string{"chdir /mnt/host", "sys mknod s:n S_IFCHR|0666 dev:1:3", "stat n", "openfile n O_RDWR", "do unlink s:n"}, "ok ok ok", "value"},
	})
}

// TestRuntimeDev has /dev as runtimes make it, a tmpfs that the container's root mounts, and names that look like it.
func TestRuntimeDev(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"dev": {[]string{"mount tmpfs tmpfs /dev MS_NOSUID mode=755", "mkdir /devfoo", "mkdir /dev/d", "chdir /dev/d",
			"sys mknod s:/dev/null S_IFCHR|0666 dev:1:3", "stat /dev/null", "openfile /dev/null O_RDWR",
			"sys mknod s:../zero S_IFCHR|0666 dev:1:5", "stat /dev/zero", "openfile /dev/zero O_RDWR",
			"sys mknod s:../../dev/x S_IFCHR|0666 dev:1:5", "openfile /dev/x O_RDWR",
			"sys mknod s:/devfoo/null S_IFCHR|0666 dev:1:3", "stat /devfoo/null", "openfile /devfoo/null O_RDWR", "do unlink s:/devfoo/null",
			"sys mknod s:/devnull S_IFCHR|0666 dev:1:3", "openfile /devnull O_RDWR", "do unlink s:/devnull",
			"sys mknod s:/dev/../root/null S_IFCHR|0666 dev:1:3", "openfile /root/null O_RDWR", "do unlink s:/root/null",
		}, strings.TrimSpace(strings.Repeat("ok ", 15)), strings.TrimSpace(strings.Repeat("value ", 6))},
	})
}

// TestRootlessOverlay is a filesystem that takes no nodes from a container.
func TestRootlessOverlay(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	lines := c.Call(t, "umask 022", "mount tmpfs none /mnt 0 -", "mkdir /mnt/l", "mkdir /mnt/u", "mkdir /mnt/w", "mkdir /mnt/m",
		"mount overlay none /mnt/m 0 lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w,userxattr",
		"sys mknod s:/mnt/m/n S_IFCHR|0660 dev:1:3", "stat /mnt/m/n", "openfile /mnt/m/n O_RDWR",
		"sys mknod s:/mnt/m/n S_IFCHR|0660 dev:1:3").Lines(t)
	if got, want := sdktest.Errnos(lines), "ok ok ok EEXIST"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if st := lines[1]; st.Mode != unix.S_IFCHR|0o640 || st.Major != 1 || st.Minor != 3 {
		t.Errorf("the node is %+v", st)
	}
}

// TestNoNodesTaken has filesystems that take no nodes from anybody, and nothing in place of one.
func TestNoNodesTaken(t *testing.T) {
	newPair(t).run(t, map[string]scripted{
		"proc":       {[]string{"sys mknod s:/proc/n S_IFCHR|0666 dev:1:3", "sys mknod s:/proc/sys/n S_IFCHR|0666 dev:1:3"}, "ENOENT ENOENT", "errno errno"},
		"proc-pid":   {[]string{"sys mknod s:/proc/self/n S_IFCHR|0666 dev:1:3", "sys mknod s:/proc/1/fd/n S_IFCHR|0666 dev:1:3"}, "ENOENT ENOENT", "errno errno"},
		"proc-exist": {[]string{"sys mknod s:/proc/self S_IFCHR|0666 dev:1:3", "sys mknod s:/proc/uptime S_IFCHR|0666 dev:1:3"}, "EEXIST EEXIST", "errno errno"},
	})
}

// TestCoverFull has no room for the node.
func TestCoverFull(t *testing.T) {
	newPair(t).runMounted(t, "0", "nr_inodes=2", map[string]scripted{
		"inodes": {[]string{"sys mknod s:a S_IFCHR|0666 dev:1:3", "sys mknod s:b S_IFCHR|0666 dev:1:3", "stat b"}, "ok ENOSPC ENOENT", "value errno"},
	})
}

// TestOtherNamespacesTmpfs reaches into a mount namespace that the caller is not in: nothing is mounted there, and nothing
// is left.
func TestOtherNamespacesTmpfs(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	lines := c.Call(t, "mount tmpfs none /mnt 0 -", "unshare mount", "do umount2 s:/mnt MNT_DETACH",
		"sys mknod s:/proc/1/root/mnt/n S_IFCHR|0666 dev:1:3", "stat /proc/1/root/mnt/n", "stat /mnt/n").Lines(t)
	if got, want := sdktest.Errnos(lines), "EPERM ENOENT ENOENT"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestCoverLeavesNothing counts descriptors, and looks for the covers' mounts in this process's namespace.
func TestCoverLeavesNothing(t *testing.T) {
	var before int
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			lines := sdktest.NewContainer(t, handler{}).Call(t, "umask 0", "mount tmpfs none /mnt 0 -", "repeat 5",
				"sys mknod s:/mnt/%i S_IFCHR|0666 dev:1:3", "stat /mnt/4").Lines(t)
			if got, want := sdktest.Errnos(lines), "ok ok ok ok ok ok"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
		if name == "first" {
			before = entries(t, "/proc/self/fd")
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), " - tmpfs intercede ") {
		t.Errorf("%v, mounts:\n%s", err, mounts)
	}
	if now := entries(t, "/proc/self/fd"); now != before {
		t.Errorf("%d descriptors before, %d after", before, now)
	}
}

// entries counts those of a folder.
func entries(t *testing.T, dir string) int {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
