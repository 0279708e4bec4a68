package mknod

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// makeCovers is a script that mounts a tmpfs on /mnt and makes so many nodes there.
func makeCovers(n int) []string {
	return []string{"mount tmpfs none /mnt 0 -", "repeat " + strconv.Itoa(n), "sys mknod s:/mnt/%i S_IFCHR|0666 dev:1:3"}
}

// outcomes counts the errors of a script: "ok 3, ENOSPC 1".
func outcomes(t *testing.T, c *sdktest.Container, script ...string) string {
	t.Helper()
	counts := sdktest.Tally(c.Call(t, script...).Lines(t))
	full := counts[unix.ENOSPC]
	delete(counts, unix.ENOSPC)
	made := counts[0]
	delete(counts, 0)
	if len(counts) > 0 {
		t.Errorf("unexpected errors: %v", counts)
	}
	return "ok " + strconv.Itoa(made) + ", ENOSPC " + strconv.Itoa(full)
}

// TestDefaultMaxCovers has a container make more than it may, and have room again when they are gone.
func TestDefaultMaxCovers(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	if got := outcomes(t, c, makeCovers(1030)...); got != "ok 1024, ENOSPC 6" {
		t.Error(got)
	}
	if got := sdktest.Errnos(c.Call(t, "stat /mnt/1023", "stat /mnt/1024").Lines(t)); got != "ok ENOENT" {
		t.Errorf("the last that was made, and the next: %s", got)
	}
	awaitRoom(t, c, "do umount2 s:/mnt MNT_DETACH", "mount tmpfs none /mnt 0 -")
	if got := outcomes(t, c, append([]string{"do umount2 s:/mnt MNT_DETACH"}, makeCovers(1000)...)...); got != "ok 1000, ENOSPC 0" {
		t.Error(got)
	}
}

// awaitRoom runs a script until a node can be made on /mnt after it. The kernel may take a moment to end a filesystem.
func awaitRoom(t *testing.T, c *sdktest.Container, script ...string) {
	t.Helper()
	c.Call(t, script...)
	for outcomes(t, c, "sys mknod s:/mnt/n S_IFCHR|0666 dev:1:3") != "ok 1, ENOSPC 0" {
	}
}

// TestMaxCovers has a container make covers where they are not seen from its other mount namespaces, and unmount one.
func TestMaxCovers(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"max_covers": 3}))
	if got := outcomes(t, c, makeCovers(5)...); got != "ok 3, ENOSPC 2" {
		t.Error(got)
	}
	elsewhere := append([]string{"unshare mount", "do umount2 s:/mnt MNT_DETACH"}, makeCovers(2)...)
	if got := outcomes(t, c, elsewhere...); got != "ok 0, ENOSPC 2" {
		t.Errorf("in another mount namespace: %s", got)
	}
	if got := outcomes(t, c, "sys mknod s:/root/n S_IFCHR|0666 dev:1:3"); got != "ok 1, ENOSPC 0" {
		t.Errorf("where nothing needs to be covered: %s", got)
	}
	awaitRoom(t, c, "do umount2 s:/mnt/1 0")
	if got := outcomes(t, c, "sys mknod s:/mnt/m S_IFCHR|0666 dev:1:3"); got != "ok 0, ENOSPC 1" {
		t.Errorf("after one was unmounted and another made: %s", got)
	}
}

// TestCoversThatAreNotMounted fails after the cover's filesystem was made: it is not counted.
func TestCoversThatAreNotMounted(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"max_covers": 1}))
	c.Call(t, "mount tmpfs none /mnt 0 -")
	try := func() string {
		return sdktest.Errnos(c.Call(t, "unshare mount", "do umount2 s:/mnt MNT_DETACH",
			"sys mknod s:/proc/1/root/mnt/n S_IFCHR|0666 dev:1:3").Lines(t))
	}
	for range 3 {
		got := try()
		for got == "ENOSPC" { // the kernel may take a moment to end the last one's filesystem
			got = try()
		}
		if got != "EPERM" {
			t.Errorf("got %s", got)
		}
	}
}

func TestNoCovers(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"max_covers": 0}))
	if got := outcomes(t, c, makeCovers(1)...); got != "ok 0, ENOSPC 1" {
		t.Error(got)
	}
}

// TestLostEvents ends more filesystems than inotify keeps events of.
func TestLostEvents(t *testing.T) {
	sdktest.RequireRoot(t)
	text, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	events, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if events > 1<<15 {
		sdktest.Lacking(t, "fs.inotify.max_queued_events is %d: that takes too long", events)
	}
	w, err := newWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(w.inotify)
	n := events/2 + 1 // each ends with two events
	c := newCovers(n, nil)
	self, err := target.Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	for range n {
		fs, err := self.NewNodeTmpfs(0)
		if err != nil {
			t.Fatal(err)
		}
		err = w.mark(cover{c, c.take()}, fs)
		unix.Close(fs)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, ok, err := w.reserve(c); err != nil || !ok || c.count != 1 {
		t.Errorf("reserved %v, %v; %d are counted", ok, err, c.count)
	}
}

func TestParseMarks(t *testing.T) {
	const info = "pos:\t0\nflags:\t02004000\nmnt_id:\t16\nino:\t6171\n" +
		"inotify wd:1f ino:1 sdev:3b mask:400 ignored_mask:0 fhandle-bytes:c fhandle-type:1 f_handle:6fa44e5c0100000000000000\n" +
		"inotify wd:2 ino:1 sdev:3a mask:400 ignored_mask:0 \n"
	marks, err := parseMarks(info)
	if err != nil || len(marks) != 2 || !marks[0x1f] || !marks[2] {
		t.Errorf("%v, %v", marks, err)
	}
	for _, info := range []string{"inotify wd:x ino:1\n", "inotify wd:\n", "inotify wd:123456789 \n"} {
		if _, err := parseMarks(info); err == nil {
			t.Errorf("%q is taken", info)
		}
	}
}
