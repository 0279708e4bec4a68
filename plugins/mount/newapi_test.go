package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
)

// prepare is the newer way to a mount of /dev/disk up to its superblock.
var prepare = []string{"fd fsopen s:ext4 1", "sys fsconfig @0 1 s:source s:/dev/disk 0"}

// script joins parts of a script.
func joined(parts ...[]string) []string { return slices.Concat(parts...) }

func TestNewAPI(t *testing.T) {
	mount := []string{"sys fsconfig @0 6 null null 0", "fd fsmount @0 1 0", "sys move_mount @1 s: AT_FDCWD s:m 4", "stat m/lost+found"}
	// The harness keeps a copy of each descriptor that it adds, and with it the superblock: each has a device of its own.
	for name, test := range map[string]scripted{
		"plain":      {joined(prepare, mount), "ok ok ok ok", "addfd value value addfd value"},
		"options":    {joined(prepare, []string{"sys fsconfig @0 0 s:ro null 0", "sys fsconfig @0 1 s:data s:ordered 0"}, mount), "ok ok ok ok ok ok", "addfd value value value value addfd value"},
		"attributes": {joined(prepare, []string{"sys fsconfig @0 6 null null 0", "fd fsmount @0 0 0x99", "sys move_mount @1 s: AT_FDCWD s:m 4"}), "ok ok ok", "addfd value value addfd value"},
		"umount":     {joined(prepare, mount, []string{"do close @0", "do close @1", "sys umount2 s:m MNT_DETACH"}), "ok ok ok ok ok", "addfd value value addfd value"},
		"thread":     {joined(prepare, []string{"thread"}, mount), "ok ok ok ok", "addfd value value addfd value"},
		"duplicate":  {joined(prepare, []string{"fd dup @0", "sys fsconfig @1 6 null null 0", "fd fsmount @1 1 0", "sys move_mount @2 s: AT_FDCWD s:m 4"}), "ok ok ok", "addfd value value addfd value"},
		"errors": {joined(prepare, []string{"sys fsconfig @0 0 s:nonsense null 0", "sys fsconfig @0 1 s:data s:nonsense 0", "sys fsconfig @0 0 null null 0", "sys fsconfig @0 0 s:ro s:x 0", "sys fsconfig @0 0 s:ro null 1",
			"sys fsconfig @0 1 s:data null 0", "sys fsconfig @0 1 bad s:x 0", "sys fsconfig @0 1 s:data bad 0", "sys fsconfig @0 1 long:256 s:x 0", "sys fsconfig @0 1 s:data long:256 0", "sys fsconfig @0 99 null null 0",
			"sys fsconfig @0 1 s:source s:x 0", "sys fsconfig @0 7 null null 0", "sys fsmount @0 0 0", "sys fsconfig @0 6 s:x null 0"}),
			"ok EINVAL EINVAL EINVAL EINVAL EINVAL EINVAL EFAULT EFAULT EINVAL EINVAL ENOTSUP EINVAL EBUSY EINVAL EINVAL", "addfd value" + strings.Repeat(" errno", 15)},
		"no source":   {[]string{"fd fsopen s:ext4 0", "sys fsconfig @0 6 null null 0", "sys fsconfig @0 6 null null 0"}, "EINVAL EBUSY", "addfd errno errno"},
		"bad source":  {[]string{"fd fsopen s:ext4 0", "sys fsconfig @0 1 s:source s:nowhere 0", "sys fsconfig @0 6 null null 0"}, "ok ENOENT", "addfd value errno"},
		"late option": {joined(prepare, []string{"sys fsconfig @0 6 null null 0", "sys fsconfig @0 0 s:ro null 0", "sys fsconfig @0 6 null null 0", "sys fsmount @0 2 0", "sys fsmount @0 0 0x100000", "sys fsmount @0 0 0x30"}), "ok ok EBUSY EBUSY EINVAL EINVAL EINVAL", "addfd value value errno errno errno errno errno"},
		"messages":    {[]string{"fd fsopen s:ext4 0", "sys fsconfig @0 0 s:nonsense null 0", "sys read @0 buf:200 200"}, "EINVAL ok", "addfd errno"},
		"types":       {[]string{"sys fsopen s:nonesuch 0", "sys fsopen bad 0", "sys fsopen s:ext4 2", "sys fsopen null 0", "sys fsconfig 99 6 null null 0", "sys fsmount 99 0 0"}, "ENODEV EFAULT EINVAL EFAULT EBADF EBADF", strings.TrimSpace(strings.Repeat("continue ", 6))},
		"own tmpfs":   {[]string{"fd fsopen s:tmpfs 0", "sys fsconfig @0 6 null null 0", "fd fsmount @0 0 0", "sys move_mount @1 s: AT_FDCWD s:m 4"}, "ok ok", "continue continue continue continue"},
		"pick": {joined(prepare, mount, []string{"fd fspick AT_FDCWD s:m 1", "sys fsconfig @2 0 s:ro null 0", "sys fsconfig @2 0 s:nonsense null 0", "sys fsconfig @2 7 null null 0", "do close @2", "openfile m/x O_CREAT|O_WRONLY"}),
			"ok ok ok ok ok EINVAL ok EROFS", "addfd value value addfd value addfd value errno value"},
		"pick by descriptor": {joined(prepare, mount, []string{"open m O_PATH", "fd fspick @2 s: 9", "sys fsconfig @3 0 s:ro null 0", "sys fsconfig @3 7 null null 0", "sys fspick @2 s: 1", "sys fspick AT_FDCWD s:nowhere 0", "sys fspick 99 s:x 0", "sys fspick AT_FDCWD s:/ 99"}),
			"ok ok ok ok ok ok ENOENT ENOENT EBADF EINVAL", "addfd value value addfd value addfd value value continue continue continue continue"},
	} {
		newPair(t, nil).run(t, map[string]scripted{name: test})
	}
}

func TestNewAPIRefused(t *testing.T) {
	c, _ := oneDisk(t, map[string]any{"fuse": map[string]string{"erofs": "erofsfuse"}}, 0o600, sdktest.HostID)
	expect(t, c, "ENOSYS", "errno", "sys fsopen s:erofs 0")
	expect(t, c, "EPERM", "continue", "dropcap 21", "sys fsopen s:ext4 0")
	expect(t, c, "EPERM EPERM EPERM EPERM", "addfd errno errno errno errno", "fd fsopen s:ext4 0", "sys fsconfig @0 1 s:journal_dev s:1 0", "sys fsconfig @0 1 s:errors s:panic 0",
		"sys fsconfig @0 3 s:journal_path s:/dev/disk AT_FDCWD", "sys fsconfig @0 5 s:journal_path null 0")
	// The kernel refuses a context that the container opened itself.
	expect(t, c, "ok EPERM", "continue continue continue", "fd fsopen s:xfs 0", "sys fsconfig @0 1 s:source s:/dev/disk 0", "sys fsconfig @0 6 null null 0")
	// Locked flags, on a mount that is not attached yet and on one that is.
	expect(t, c, "ok ok EPERM EPERM ok EPERM EPERM ok", "addfd value value addfd value", joined(prepare, []string{"sys fsconfig @0 6 null null 0", "fd fsmount @0 0 0",
		"sys mount_setattr @1 s: AT_EMPTY_PATH struct:8=0,8=4,8=0,8=0 32", "sys mount_setattr @1 s: AT_EMPTY_PATH struct:8=0,8=2,8=0,8=0 32",
		"sys move_mount @1 s: AT_FDCWD s:m 4", "sys mount_setattr AT_FDCWD s:m 0 struct:8=0,8=4,8=0,8=0 32", "sys mount_setattr AT_FDCWD s:m 0 struct:8=0,8=2,8=0,8=0 32",
		"sys mount_setattr AT_FDCWD s:m 0 struct:8=9,8=0,8=0,8=0 32"})...)
	// Contexts that were forgotten are the kernel's, and useless.
	many := []string{"fd fsopen s:ext4 0", "sys fsconfig @0 1 s:source s:/dev/disk 0", "repeat 16", "sys fsopen s:ext4 0", "sys fsconfig @0 6 null null 0"}
	result := c.Call(t, within(many...)...)
	if got := sdktest.Errnos(result.Lines(t)); !strings.HasSuffix(got, "ok EPERM") {
		t.Errorf("got %s", got)
	}
}

// TestNewAPIShift gives the mount the container's ids.
func TestNewAPIShift(t *testing.T) {
	c, _ := oneDisk(t, map[string]any{"shift": true}, 0o600, sdktest.HostID)
	lines := c.Call(t, within(joined(prepare, []string{"sys fsconfig @0 6 null null 0", "fd fsmount @0 0 0", "sys move_mount @1 s: AT_FDCWD s:m 4", "stat m/lost+found", "openfile m/x O_CREAT|O_WRONLY"})...)...).Lines(t)
	if got := sdktest.Errnos(lines); got != "ok ok ok ok ok" || lines[3].UID != 0 {
		t.Errorf("got %s, owner %d", got, lines[3].UID)
	}
}

// TestContextsEnd lets a superblock go when its context is forgotten.
func TestContextsEnd(t *testing.T) {
	var c contexts
	for range 2 * maxContexts {
		c.add(newContext(-1, nil))
	}
	if len(c.open) != maxContexts {
		t.Errorf("%d contexts are kept", len(c.open))
	}
	one := c.open[0]
	c.forgetAll()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		one.turn <- struct{}{}
		phase := one.phase
		<-one.turn
		if phase == closed || time.Now().After(deadline) {
			break
		}
	}
	if len(c.open) != 0 || one.phase != closed {
		t.Errorf("%d contexts are kept, phase %d", len(c.open), one.phase)
	}
}
