package mount

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestParseLoops(t *testing.T) {
	for text, want := range map[string][]uint32{
		"512": {512}, "0": {0}, "512-514": {512, 513, 514}, "1048575": {1048575}, "7-7": {7},
	} {
		if got, err := parseLoops(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "1048576", "9-8", "0-64", "-1", "1-", "1-2-3", " 1", "1,2"} {
		if got, err := parseLoops(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

// control gives the descriptor of the host's /dev/loop-control.
func control(t testing.TB) int {
	t.Helper()
	fd, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		sdktest.Lacking(t, "needs /dev/loop-control: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// firstReserved is beyond what the host has. Busybox knows numbers up to 1023.
const firstReserved = 512

// reserve finds so many numbers in a row of loop devices that are not there. In the end none of them is set up.
func reserve(t testing.TB, count int) (numbers []int) {
	t.Helper()
	sdktest.RequireRoot(t)
	ctl := control(t)
	for n := firstReserved + os.Getpid()%400; len(numbers) < count; n++ {
		if _, err := os.Stat(fmt.Sprintf("/sys/block/loop%d", n)); err == nil {
			numbers = nil
			continue
		}
		numbers = append(numbers, n)
	}
	t.Cleanup(func() { // after the end of the container that is made next
		for _, n := range numbers {
			awaitNoLoop(t, ctl, n)
		}
	})
	return numbers
}

// awaitNoLoop removes a loop device, which is not set up any more, as soon as the kernel has ended its last use.
func awaitNoLoop(t testing.TB, ctl, number int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := unix.IoctlSetInt(ctl, unix.LOOP_CTL_REMOVE, number)
		if err == nil || err == unix.ENODEV {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("loop%d is in use after the end: %v", number, err)
			return
		}
	}
}

// loopRange is the setting for these numbers.
func loopRange(numbers []int) []string {
	return []string{fmt.Sprintf("%d-%d", numbers[0], numbers[len(numbers)-1])}
}

// putFile copies a file of the host into a container, for its root.
func putFile(t testing.TB, c *sdktest.Container, from, name string) {
	t.Helper()
	path := filepath.Join(c.Rootfs(), name)
	copyFile(t, from, path)
	if err := os.Chown(path, sdktest.HostID, sdktest.HostID); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

// withLoops is a container with so many loop devices of its own, images, and an empty file for /dev/loop-control.
func withLoops(t testing.TB, count int, options ...sdktest.Option) (*sdktest.Container, []int) {
	t.Helper()
	numbers := reserve(t, count)
	c := sdktest.NewContainer(t, handler{}, append(options, sdktest.WithSettings(loopSettings(numbers)))...)
	fillLoops(t, c)
	return c, numbers
}

// loopContainer is withLoops for scripts.
func loopContainer(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	c := new(sdktest.WithSettings(loopSettings(reserve(t, 2))))
	fillLoops(t, c)
	return c
}

func loopSettings(numbers []int) map[string]any {
	return map[string]any{"allowed": []string{"ext4", "squashfs"}, "devices": []string{"7:*"}, "loop": loopRange(numbers)}
}

func fillLoops(t testing.TB, c *sdktest.Container) {
	t.Helper()
	putFile(t, c, os.DevNull, "dev/loop-control")
	putFile(t, c, ext4(t), "image")
	putFile(t, c, squashfs(t), "squash")
}

// TestMountImage has the programs of util-linux and of busybox mount images, without a node or a loop device at first.
func TestMountImage(t *testing.T) {
	for name, args := range map[string][]string{
		"ext4":             {"mount", "-t", "ext4", "-o", "loop", "/image", "/mnt"},
		"by itself":        {"mount", "/image", "/mnt"},
		"squashfs":         {"mount", "/squash", "/mnt"},
		"busybox ext4":     {"busybox", "mount", "-t", "ext4", "-o", "loop", "/image", "/mnt"},
		"busybox squashfs": {"busybox", "mount", "-t", "squashfs", "/squash", "/mnt"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := withLoops(t, 2)
			program, umount := install(t, c, args[0]), install(t, c, "umount")
			for range 3 { // each time with the first device again
				r := c.Run(t, program, args[1:]...)
				if r.ExitCode != 0 {
					t.Fatalf("%s: %+v", args, r)
				}
				closeCopies(r)
				if got := deviceMountPoints(t, c); got != "/mnt" {
					t.Errorf("mounted on %q", got)
				}
				if r := c.Run(t, umount, "/mnt"); r.ExitCode != 0 {
					t.Fatalf("umount: %+v", r)
				}
			}
		})
	}
}

// closeCopies closes the test's own copies of what fsmount(2) gave: with them the mount would be busy. Programs use it
// from util-linux 2.39 on.
func closeCopies(r sdktest.Result) {
	for _, call := range r.Calls {
		if call.Outcome.File != nil {
			call.Outcome.File.Close()
		}
	}
}

// TestMountImageByHandler has handlers of the container serve the loop device.
func TestMountImageByHandler(t *testing.T) {
	for name, test := range map[string]struct {
		fstype, handler, image string
	}{
		"ext4":     {"ext4", "fuse2fs", "/image"},
		"squashfs": {"squashfs", "squashfuse", "/squash"},
	} {
		t.Run(name, func(t *testing.T) {
			numbers := reserve(t, 2)
			c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{
				"loop": loopRange(numbers), "fuse": map[string]string{test.fstype: test.handler},
			}))
			fillLoops(t, c)
			putFuse(t, c)
			putFile(t, c, squashfs(t), "dev/urandom") // any bytes will do
			mount, umount := install(t, c, "mount"), install(t, c, "umount")
			install(t, c, test.handler)
			for range 2 {
				if r := c.Run(t, mount, "-t", test.fstype, test.image, "/mnt"); r.ExitCode != 0 {
					t.Fatalf("mount: %+v", r)
				}
				if r := c.Run(t, umount, "/mnt"); r.ExitCode != 0 {
					t.Fatalf("umount: %+v", r)
				}
				// mount(8) uses the device of the same file again, which the handler has for itself until it is gone.
				waitForNone(t, c, test.handler+"\x00")
			}
		})
	}
}

// deviceMountPoints are the mount points of loop devices in the container.
func deviceMountPoints(t *testing.T, c *sdktest.Container) string {
	t.Helper()
	busybox := install(t, c, "busybox")
	var points []string
	for line := range strings.Lines(c.Run(t, busybox, "cat", "/proc/self/mountinfo").Stdout) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[2], "7:") {
			points = append(points, fields[4])
		}
	}
	return strings.Join(points, " ")
}

// TestLoopsOfTwo has two containers with the same devices: none is told of one that the other was told of.
func TestLoopsOfTwo(t *testing.T) {
	one, numbers := withLoops(t, 2)
	other := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(loopSettings(numbers)))
	fillLoops(t, other)
	for range 2 {
		for i, c := range []*sdktest.Container{one, other} {
			r := c.Run(t, install(t, c, "losetup"), "--find")
			if want := fmt.Sprintf("/dev/loop%d", numbers[i]); strings.TrimSpace(r.Stdout) != want {
				t.Errorf("container %d: %+v, want %s", i, r, want)
			}
		}
	}
}

// TestLowLoops are there when a container is told of a device, for programs of the host. On a busy machine without them
// it is served before all are made (lowTime), and the next container has the rest made.
func TestLowLoops(t *testing.T) {
	missing := func() (err error) {
		for n := range lowLoops {
			_, statErr := os.Stat(fmt.Sprintf("/sys/block/loop%d", n))
			err = errors.Join(err, statErr)
		}
		return err
	}
	for end := time.Now().Add(patience); ; {
		c, _ := withLoops(t, 1)
		if r := c.Run(t, install(t, c, "losetup"), "--find"); r.ExitCode != 0 {
			t.Fatalf("losetup: %+v", r)
		}
		err := missing()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestLosetupFind sets devices up and down, until there is none.
func TestLosetupFind(t *testing.T) {
	c, numbers := withLoops(t, 2)
	losetup := install(t, c, "losetup")
	for _, n := range numbers {
		want := fmt.Sprintf("/dev/loop%d", n)
		if r := c.Run(t, losetup, "--find", "--show", "--partscan", "/image"); r.ExitCode != 0 || strings.TrimSpace(r.Stdout) != want {
			t.Fatalf("losetup: %+v, want %s", r, want)
		}
	}
	// Losetup of util-linux 2.41 prints a name all the same.
	if r := c.Run(t, losetup, "--find", "--show", "/image"); r.ExitCode == 0 {
		t.Errorf("a third device: %+v", r)
	}
	for _, n := range numbers {
		if r := c.Run(t, losetup, "--detach", fmt.Sprintf("/dev/loop%d", n)); r.ExitCode != 0 {
			t.Errorf("detach: %+v", r)
		}
	}
}

// TestOwnDev has a tmpfs of the container on /dev, on which no node can be opened.
func TestOwnDev(t *testing.T) {
	c, numbers := withLoops(t, 1)
	busybox := install(t, c, "busybox")
	r := c.Run(t, busybox, "sh", "-ec", `busybox mount -t tmpfs none /dev
		: > /dev/loop-control
		for i in 1 2 3; do
			busybox mount -t ext4 -o loop /image /mnt
			busybox umount /mnt
		done
		busybox stat -c "%F %t:%T %a %u" /dev/loop*[0-9]
		busybox grep -c /dev/loop /proc/self/mountinfo`)
	if want := fmt.Sprintf("block special file 7:%x 600 0\n1\n", numbers[0]); r.ExitCode != 0 || r.Stdout != want {
		t.Errorf("got %+v, want %q", r, want)
	}
}

// TestUmask has the first who asks have a umask that leaves nobody anything: the container's node is as ever.
func TestUmask(t *testing.T) {
	c, numbers := withLoops(t, 1)
	result := c.Call(t, "umask 0777", "open /dev/loop-control O_RDWR", "sys ioctl @0 0x4C82 0", fmt.Sprintf("stat /dev/loop%d", numbers[0]))
	lines := result.Lines(t)
	last := lines[len(lines)-1]
	if last.Errno != 0 || last.Mode != unix.S_IFBLK|0o600 || last.Minor != uint32(numbers[0]) {
		t.Errorf("the node is %+v: %v", last, result.Calls)
	}
}

// TestMountedAtTheEnd kills a container that has an image mounted: reserve looks that its device is free again.
func TestMountedAtTheEnd(t *testing.T) {
	c, _ := withLoops(t, 1)
	busybox := install(t, c, "busybox")
	p := c.Start(t, busybox, "sh", "-c", "busybox mount -t ext4 -o loop /image /mnt; sleep 1000")
	for deadline := time.Now().Add(patience); deviceMountPoints(t, c) == ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is mounted")
		}
	}
	p.Kill(t)
}

// TestLeftAtTheEnd has a container end that has set a device up, which reserve looks for.
func TestLeftAtTheEnd(t *testing.T) {
	c, numbers := withLoops(t, 2)
	losetup := install(t, c, "losetup")
	if r := c.Run(t, losetup, "--find", "/image"); r.ExitCode != 0 {
		t.Fatalf("losetup: %+v", r)
	}
	if size := loopSize(t, numbers[0]); size == 0 {
		t.Error("the device is not set up")
	}
}

// TestLoopsLeaveNothing counts the plugin's descriptors.
func TestLoopsLeaveNothing(t *testing.T) {
	var before int
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			c, _ := withLoops(t, 2)
			losetup := install(t, c, "losetup")
			for range 2 {
				if r := c.Run(t, losetup, "--find", "/image"); r.ExitCode != 0 {
					t.Fatalf("losetup: %+v", r)
				}
			}
			if r := c.Run(t, losetup, "--find", "/image"); r.ExitCode == 0 {
				t.Errorf("a third device: %+v", r)
			}
		})
		if name == "first" {
			before = sdktest.PluginDescriptors(t, handler{})
		}
	}
	sdktest.AwaitPluginDescriptors(t, handler{}, before)
}

// TestMovedDev exchanges /dev for a link to another directory all the while: the node comes to the one or the other,
// and is that of the container's own device.
func TestMovedDev(t *testing.T) {
	c, numbers := withLoops(t, 1)
	for _, dir := range []string{"a", "b"} {
		path := filepath.Join(c.Rootfs(), "tmp", dir)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, sdktest.HostID, sdktest.HostID); err != nil {
			t.Fatal(err)
		}
	}
	putFile(t, c, os.DevNull, "control")
	for name, dir := range map[string]string{"x": "/tmp/a", "y": "/tmp/b"} {
		if err := os.Symlink(dir, filepath.Join(c.Rootfs(), name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(c.Rootfs(), "dev")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/x", filepath.Join(c.Rootfs(), "dev")); err != nil {
		t.Fatal(err)
	}
	stop := sdktest.Swap(t, filepath.Join(c.Rootfs(), "x"), filepath.Join(c.Rootfs(), "y"))
	result := c.Call(t, "open /control O_RDWR", "repeat 200", "sys ioctl @0 0x4C82 0", fmt.Sprintf("stat /tmp/a/loop%d", numbers[0]),
		fmt.Sprintf("stat /tmp/b/loop%d", numbers[0]))
	stop()
	for i, line := range result.Lines(t) {
		if line.Errno != 0 && line.Errno != unix.ENOENT {
			t.Errorf("%d: %v", i, line.Errno)
		}
		if i >= 200 && line.Errno == 0 && (line.Major != loopMajor || line.Minor != uint32(numbers[0])) {
			t.Errorf("%+v", line)
		}
	}
}

// loopSize is the size of a loop device in sectors, 0 if it is not set up.
func loopSize(t *testing.T, number int) (size int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/size", number))
	if err == nil {
		_, err = fmt.Sscan(string(text), &size)
	}
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// TestStuckImage has a file behind a device that is on a filesystem which the container serves, and does not serve any
// more: others find their devices, and it is cleared with the container.
func TestStuckImage(t *testing.T) {
	c, numbers := withLoops(t, 2)
	putFuse(t, c)
	putFile(t, c, squashfs(t), "dev/urandom") // any bytes will do
	putFile(t, c, os.DevNull, "dev/null")
	busybox := install(t, c, "busybox")
	r := c.Run(t, busybox, "sh", "-ec", `losetup=$1
		$2 -f -o fakeroot /image /mnt &
		for i in $(busybox seq 500); do [ -d /mnt/lost+found ] && break; busybox sleep 0.01; done
		busybox truncate -s 1M /mnt/inner
		used=$($losetup --find --show /mnt/inner)
		kill -STOP $!
		busybox dd if=/image of=$used bs=4k count=16 &
		busybox sleep 0.3
		$losetup --find
		$losetup --find --show /squash`, "sh", install(t, c, "losetup"), install(t, c, "fuse2fs"))
	if want := strings.Repeat(fmt.Sprintf("/dev/loop%d\n", numbers[1]), 2); r.ExitCode != 0 || r.Stdout != want {
		t.Errorf("got %+v, want %q", r, want)
	}
}

// TestCloseOfSession closes sessions of a container that lives, and that has ended: devices that it was told of are
// cleared then, and no others.
func TestCloseOfSession(t *testing.T) {
	numbers := reserve(t, 2)
	need(t, "losetup")
	setUp := func(n int) { run(t, "losetup", fmt.Sprintf("/dev/loop%d", n), image(t, 1<<20)) }
	setUp(numbers[0])
	setUp(numbers[1])
	t.Cleanup(func() { run(t, "losetup", "--detach", fmt.Sprintf("/dev/loop%d", numbers[1])) })

	first := exec.Command("sleep", "1000")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Process.Kill(); first.Wait() })
	settings, err := json.Marshal(config{Nodev: true})
	if err != nil {
		t.Fatal(err)
	}
	attach := func(pid int) io.Closer {
		session, err := handler{}.Attach(t.Context(), sdk.Container{
			InitPID: pid, Kept: map[string][]byte{fmt.Sprintf(loopKey, numbers[0]): nil},
		}, settings)
		if err != nil {
			t.Fatal(err)
		}
		return session.(io.Closer)
	}
	closeSession := func(session io.Closer, wantCleared bool) {
		t.Helper()
		if err := session.Close(); err != nil {
			t.Error(err)
		}
		if cleared := loopSize(t, numbers[0]) == 0; cleared != wantCleared {
			t.Errorf("cleared: %v, want %v", cleared, wantCleared)
		}
		if loopSize(t, numbers[1]) == 0 {
			t.Error("a device was cleared that the container was not told of")
		}
	}
	closeSession(attach(first.Process.Pid), false)
	before, last := attach(first.Process.Pid), attach(first.Process.Pid)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	closeSession(before, false) // another one was told of the device later
	closeSession(last, true)
}

// TestDeniedLoops has devices that the device cgroup denies: the others are found.
func TestDeniedLoops(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		g := newGuard(t, version)
		dir, err := os.Open(g.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		c, numbers := withLoops(t, 3, sdktest.WithCgroup(dir))
		losetup := install(t, c, "losetup")
		r := c.Run(t, losetup, "--find", "--show", "/image") // alone, --find of util-linux 2.41 prints a name all the same
		if r.ExitCode == 0 {
			t.Errorf("a device that is denied: %+v", r)
		}
		g.allow(t, unix.Mkdev(loopMajor, uint32(numbers[1])), "rw")
		want := numbers[1]
		if version == "version 2" { // the test's program knows no numbers
			want = numbers[0]
		}
		r = c.Run(t, losetup, "--find")
		if got := strings.TrimSpace(r.Stdout); got != fmt.Sprintf("/dev/loop%d", want) {
			t.Errorf("got %q, want %d of %v: %+v", got, want, numbers, r)
		}
	})
}

// TestLoopControl asks as different callers, and on different descriptors.
func TestLoopControl(t *testing.T) {
	c, _ := withLoops(t, 1)
	for name, text := range map[string]string{"empty": "", "full": "x"} {
		path := filepath.Join(c.Rootfs(), name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	const open, ask = "open /dev/loop-control O_RDWR", "sys ioctl @0 0x4C82 0"
	for name, test := range map[string]struct {
		errors, kinds string
		script        []string
	}{
		"root":              {"ok ok", "value value", []string{open, ask, ask}},
		"garbage":           {"ok", "value", []string{open, "sys ioctl @0 0x900004C82 0x1234"}},
		"thread":            {"ok", "value", []string{open, "thread", ask}},
		"another request":   {"ENOTTY", "", []string{open, "sys ioctl @0 0x4C80 5"}},
		"for reading":       {"ok", "value", []string{"open /dev/loop-control O_RDONLY", ask}},
		"another name":      {"ok", "value", []string{"open /empty O_RDWR", ask}},
		"file with content": {"ENOTTY", "next", []string{"open /full O_RDWR", ask}},
		"directory":         {"ENOTTY", "next", []string{"open /tmp O_RDONLY", ask}},
		"path":              {"EBADF", "next", []string{"open /dev/loop-control O_PATH", ask}},
		"no descriptor":     {"EBADF EBADF", "errno errno", []string{"sys ioctl 77 0x4C82 0", "sys ioctl -1 0x4C82 0"}},
		"no capability":     {"ENOTTY", "next", []string{open, "dropcap CAP_SYS_ADMIN", ask}},
		"user":              {"ENOTTY", "next", []string{open, "setgid 7", "setuid 8", ask}},
		"nested root":       {"ENOTTY", "next", []string{open, "unshare user", ask}},
		"nested mounts":     {"ENOTTY", "next", []string{open, "unshare user", "unshare mount", ask}},
	} {
		t.Run(name, func(t *testing.T) {
			result := c.Call(t, test.script...)
			if got := sdktest.Errnos(result.Lines(t)); got != test.errors {
				t.Errorf("got %s, want %s: %v", got, test.errors, result.Calls)
			}
			if got := result.Kinds(); got != test.kinds {
				t.Errorf("answered by %q, want %q: %v", got, test.kinds, result.Calls)
			}
		})
	}
}

// TestManyAsk has threads ask at once: of devices that nobody takes all get the first.
func TestManyAsk(t *testing.T) {
	c, numbers := withLoops(t, 2)
	result := c.Call(t, "open /dev/loop-control O_RDWR", "threads 16", "sys ioctl @0 0x4C82 0")
	for _, line := range result.Lines(t) {
		if line.Errno != 0 || line.Ret != int64(numbers[0]) {
			t.Errorf("%+v, want %d", line, numbers[0])
		}
	}
	if got := sdktest.Errnos(c.Call(t, fmt.Sprintf("openfile /dev/loop%d O_RDWR", numbers[0])).Lines(t)); got != "ok" {
		t.Errorf("the device: %s", got)
	}
}

// TestForeignNode has other files than an empty one in the node's place, and a directory that the caller cannot write.
func TestForeignNode(t *testing.T) {
	c, numbers := withLoops(t, 1)
	node := fmt.Sprintf("/dev/loop%d", numbers[0])
	const mount, open, ask = "mount tmpfs none /dev 0 -", "open /control O_RDWR", "sys ioctl @0 0x4C82 0"
	putFile(t, c, os.DevNull, "control")
	for name, test := range map[string]struct {
		want   string
		script []string
	}{
		"file with content": {"EEXIST", []string{mount, "write " + node + " text", open, ask}},
		"folder":            {"EEXIST", []string{mount, "mkdir " + node, open, ask}},
		"dangling link":     {"ENOENT", []string{mount, "do symlinkat s:/no AT_FDCWD s:" + node, open, ask}},
		"loop of links":     {"ELOOP", []string{mount, "do symlinkat s:" + node + " AT_FDCWD s:" + node, open, ask}},
		"link to a file":    {"ok", []string{mount, "write /dev/x ", "do symlinkat s:x AT_FDCWD s:" + node, open, ask}},
		"read-only":         {"EROFS", []string{"mount tmpfs none /dev 1 -", open, ask}},
		"no folder":         {"ENOENT", []string{open, "chroot /mnt", ask}},
	} {
		t.Run(name, func(t *testing.T) {
			result := c.Call(t, append([]string{"unshare mount"}, test.script...)...)
			lines := result.Lines(t)
			if got := sdktest.Errnos(lines[len(lines)-1:]); got != test.want {
				t.Errorf("got %s, want %s: %v", got, test.want, result.Calls)
			}
		})
	}
}
