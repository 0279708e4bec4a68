package main

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

const mountDisk = "sys mount s:/dev/disk s:m s:ext4 0 null"

// oneDisk is a container with a device by the name /dev/disk, of this mode and owner on the host.
func oneDisk(t *testing.T, settings map[string]any, mode uint32, owner int, options ...sdktest.Option) (*sdktest.Container, string) {
	t.Helper()
	c := sdktest.NewContainer(t, handler{}, append(options, sdktest.WithSettings(with(settings)))...)
	device := loop(t, ext4(t))
	putNode(t, c, device, "dev/disk", mode, owner)
	return c, device
}

// within are scripts in a directory and a mount namespace of their own.
func within(script ...string) []string {
	return append([]string{"unshare mount", "mount tmpfs none /tmp 0 -", "chdir /tmp", "mkdir m"}, script...)
}

// expect runs a script: the errors of its calls, and how those after the first, the mount of the tmpfs, were answered.
func expect(t *testing.T, c *sdktest.Container, errors, answers string, script ...string) {
	t.Helper()
	result := c.Call(t, within(script...)...)
	if got := sdktest.Errnos(result.Lines(t)); got != errors {
		t.Errorf("%q: got %s, want %s", script, got, errors)
	}
	if got := strings.TrimSpace(strings.TrimPrefix(result.Kinds(), "continue")); got != answers {
		t.Errorf("%q: answered by %q, want %q: %v", script, got, answers, result.Calls)
	}
}

// TestUnprivileged have no CAP_SYS_ADMIN in the container's user namespace, or in that of their mount namespace.
func TestUnprivileged(t *testing.T) {
	c, _ := oneDisk(t, nil, 0o666, sdktest.HostID)
	for name, script := range map[string][]string{
		"no capability":          {"dropcap 21", mountDisk},
		"user":                   {"setgid 7", "setuid 8", mountDisk},
		"nested root":            {"unshare user", mountDisk},
		"nested mount namespace": {"unshare user", "unshare mount", mountDisk},
		"thread":                 {"thread", "dropcap 21", mountDisk},
		"bad pointers":           {"dropcap 21", "sys mount s:/dev/disk s:m s:ext4 0 s:journal_dev=1"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, c, "EPERM", "continue", script...) })
	}
}

func TestOtherTypes(t *testing.T) {
	c, _ := oneDisk(t, nil, 0o666, sdktest.HostID)
	expect(t, c, "EPERM", "continue", "sys mount s:/dev/disk s:m s:xfs 0 null")
	expect(t, c, "ok", "continue", "sys mount s:none s:m s:tmpfs 0 null")
	expect(t, c, "ok ok ok", "", "sys mount s:/tmp s:m null MS_BIND null", "sys mount null s:m null MS_REMOUNT|MS_BIND|MS_RDONLY null", "sys mount null s:m null MS_PRIVATE null")
}

// TestSourcePermission has nodes that the caller may not open.
func TestSourcePermission(t *testing.T) {
	const asUser = "do prctl PR_SET_SECUREBITS 4"
	for name, test := range map[string]struct {
		mode    uint32
		owner   int
		errors  string
		answers string
		script  []string
	}{
		"closed":                   {0o600, 0, "EACCES EACCES", "errno errno", []string{mountDisk, "sys mount s:/dev/disk s:m s:ext4 MS_RDONLY null"}},
		"open to all":              {0o666, 0, "ok", "value", []string{mountDisk}},
		"readable":                 {0o644, 0, "EACCES EACCES", "errno errno", []string{mountDisk, "sys mount s:/dev/disk s:m s:ext4 MS_RDONLY null"}},
		"readable, ro in data":     {0o644, 0, "EACCES", "errno", []string{"sys mount s:/dev/disk s:m s:ext4 0 s:ro"}},
		"readable, rw in data":     {0o644, 0, "EACCES", "errno", []string{"sys mount s:/dev/disk s:m s:ext4 MS_RDONLY s:rw"}},
		"another's, by capability": {0o600, sdktest.HostID + 9, "ok", "value", []string{mountDisk}},
		"another's":                {0o600, sdktest.HostID + 9, "EACCES", "errno", []string{"dropcap 1", "dropcap 2", mountDisk}},
		"group":                    {0o660, sdktest.HostID + 9, "ok", "value", []string{asUser, "setgroups 9", "setuid 8", "dropcap 1", "dropcap 2", mountDisk}},
		"no search":                {0o666, 0, "EACCES", "errno", []string{"do mkdir s:d 0700", "do symlink s:/dev/disk s:d/l", asUser, "setuid 8", "dropcap 1", "dropcap 2", "sys mount s:d/l s:m s:ext4 0 null"}},
		"no search for target":     {0o666, 0, "EACCES", "errno", []string{"do mkdir s:d 0700", "mkdir d/m", asUser, "setuid 8", "dropcap 1", "dropcap 2", "sys mount s:/dev/disk s:d/m s:ext4 0 null"}},
		"search by capability":     {0o666, 0, "ok", "value", []string{"do mkdir s:d 0700", "mkdir d/m", "do chown s:d 5 5", "sys mount s:/dev/disk s:d/m s:ext4 0 null"}},
		"target not writable":      {0o666, 0, "ok", "value", []string{asUser, "setuid 8", "dropcap 1", "dropcap 2", mountDisk}},
		"nodev mount":              {0o666, 0, "EACCES", "errno", []string{"mkdir b", "mount - /dev b MS_BIND -", "mount - - b MS_BIND|MS_REMOUNT|MS_NODEV -", "sys mount s:b/disk s:m s:ext4 0 null"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := oneDisk(t, nil, test.mode, test.owner)
			expect(t, c, test.errors, test.answers, test.script...)
		})
	}
}

func TestDevices(t *testing.T) {
	c, device := oneDisk(t, map[string]any{"devices": []string{"7:9999", "8:*"}}, 0o600, sdktest.HostID)
	expect(t, c, "EPERM", "errno", mountDisk)
	number := deviceOf(t, device)
	for _, text := range []string{"*", "7:*", run(t, "stat", "-c", "%Hr:%Lr", device)} {
		c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(with(map[string]any{"devices": []string{text}})))
		putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
		expect(t, c, "ok ok", "value", mountDisk, "sys umount2 s:m 0")
	}
	if unix.Major(number) != 7 {
		t.Errorf("%s is no loop device", device)
	}
}

// TestRefusedOptions reach beyond the filesystem, or harm the host.
func TestRefusedOptions(t *testing.T) {
	c, _ := oneDisk(t, nil, 0o600, sdktest.HostID)
	for _, data := range []string{"journal_dev=0x700", "journal_path=/dev/disk", "errors=panic", "acl,errors=panic", "test_dummy_encryption", "debug", "ro,journal_dev=1,rw"} {
		expect(t, c, "EPERM", "errno", "sys mount s:/dev/disk s:m s:ext4 0 s:"+data)
	}
}

// TestLockedFlags are nosuid and nodev: the container cannot take them away.
func TestLockedFlags(t *testing.T) {
	for name, settings := range map[string]map[string]any{"plain": nil, "shift": {"shift": true}} {
		t.Run(name, func(t *testing.T) {
			c, _ := oneDisk(t, settings, 0o600, sdktest.HostID)
			expect(t, c, "ok EPERM EPERM EPERM ok EPERM EPERM ok ok ok", "value value value", mountDisk,
				"sys mount null s:m null MS_REMOUNT|MS_BIND null",
				"sys mount null s:m null MS_REMOUNT|MS_BIND|MS_NOSUID null",
				"sys mount null s:m null MS_REMOUNT|MS_BIND|MS_NODEV null",
				"sys mount null s:m null MS_REMOUNT|MS_BIND|MS_NODEV|MS_NOSUID null",
				"sys mount_setattr AT_FDCWD s:m 0 struct:8=0,8=4,8=0,8=0 32",
				"sys mount_setattr AT_FDCWD s:m 0 struct:8=0,8=2,8=0,8=0 32",
				"sys mount null s:m null MS_REMOUNT|MS_RDONLY null",
				"sys mount null s:m null MS_REMOUNT null",
				"sys umount2 s:m 0")
		})
	}
}

// TestShift maps the owners of files: root of the filesystem is root of the container.
func TestShift(t *testing.T) {
	for name, test := range map[string]struct {
		settings map[string]any
		owner    uint32
		create   string
	}{
		"shifted": {map[string]any{"shift": true}, 0, "ok"},
		"plain":   {nil, overflowID, "EACCES"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := oneDisk(t, test.settings, 0o600, sdktest.HostID)
			lines := c.Call(t, within(mountDisk, "stat m/lost+found", "openfile m/new O_CREAT|O_WRONLY", "sys umount2 s:m 0")...).Lines(t)
			if got, want := sdktest.Errnos(lines), "ok ok "+test.create+" ok"; got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
			if lines[1].UID != test.owner || lines[1].GID != test.owner {
				t.Errorf("the filesystem's root has files of %d:%d, want %d", lines[1].UID, lines[1].GID, test.owner)
			}
		})
	}
}

func TestRemount(t *testing.T) {
	newPair(t, nil).run(t, map[string]scripted{
		"ro":          {[]string{mountDisk, "sys mount null s:m null MS_REMOUNT|MS_RDONLY null", "openfile m/x O_CREAT|O_WRONLY", "sys mount s:none s:m s:none MS_REMOUNT s:"}, "ok ok EROFS ok", "value value value"},
		"options":     {[]string{mountDisk, "sys mount null s:m null MS_REMOUNT s:commit=9,data=ordered", "sys mount null s:m null MS_REMOUNT s:commit=x", "sys mount null s:m null MS_REMOUNT s:nonsense"}, "ok ok EINVAL EINVAL", "value value errno errno"},
		"keeps atime": {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_NOATIME null", "sys mount null s:m null MS_REMOUNT|MS_NOEXEC null"}, "ok ok", "value value"},
		"no root":     {[]string{mountDisk, "sys mount null s:m/lost+found null MS_REMOUNT null", "sys mount null s:nowhere null MS_REMOUNT null", "sys mount null bad null MS_REMOUNT null"}, "ok EINVAL ENOENT EFAULT", "value errno errno errno"},
		"magic":       {[]string{mountDisk, "sys mount null s:m null MS_MGC_VAL|MS_REMOUNT|MS_RDONLY null"}, "ok ok", "value value"},
		"own tmpfs":   {[]string{mountDisk, "mkdir n", "mount tmpfs none n 0 -", "sys mount null s:n null MS_REMOUNT|MS_RDONLY null"}, "ok ok", "value continue continue"},
	})
}

// TestRemountOfOthers are not this plugin's to change.
func TestRemountOfOthers(t *testing.T) {
	c, _ := oneDisk(t, nil, 0o600, sdktest.HostID)
	expect(t, c, "EPERM", "continue", "sys mount null s:/ null MS_REMOUNT|MS_RDONLY null")
	expect(t, c, "ok EPERM EPERM EPERM", "value errno errno continue", mountDisk,
		"sys mount null s:m null MS_REMOUNT s:errors=panic", "sys mount null s:m null MS_REMOUNT s:journal_dev=1",
		"sys mount null s:/ null MS_REMOUNT|MS_RDONLY null")
}

// Test32Bit has callers of the machine's 32-bit architecture.
func Test32Bit(t *testing.T) {
	p := newPair(t, nil)
	p.Call = (*sdktest.Container).Call32
	p.run(t, map[string]scripted{
		"mount":    {[]string{mountDisk, "stat m/lost+found"}, "ok ok", "value"},
		"flags":    {[]string{"sys mount s:/dev/disk s:m s:ext4 MS_RDONLY|MS_NOEXEC s:data=ordered"}, "ok", "value"},
		"pointers": {[]string{"sys mount bad s:m s:ext4 0 null", "sys mount s:/dev/disk s:m s:ext4 0 protnone", "sys mount null s:m s:ext4 0 null"}, "EFAULT EFAULT EINVAL", "errno errno errno"},
		"remount":  {[]string{mountDisk, "sys mount null s:m null MS_REMOUNT|MS_RDONLY null"}, "ok ok", "value value"},
		"thread":   {[]string{"thread", mountDisk}, "ok", "value"},
	})
}
