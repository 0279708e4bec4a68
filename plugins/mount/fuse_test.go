package mount

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

var libraryPath = regexp.MustCompile(`(/\S+\.so\S*)`)

// install puts a program of the host into the container, with its libraries.
func install(t testing.TB, c *sdktest.Container, program string) string {
	t.Helper()
	need(t, program)
	from, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	libraries, _ := exec.Command("ldd", from).Output()
	for _, library := range libraryPath.FindAllString(string(libraries), -1) {
		copyFile(t, library, filepath.Join(c.Rootfs(), library))
	}
	return c.Install(t, from)
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// fuseContainer is a container with busybox and a device that FUSE daemons open.
func fuseContainer(t *testing.T, fuse map[string]string, options ...sdktest.Option) *sdktest.Container {
	t.Helper()
	c := sdktest.NewContainer(t, handler{}, append(options, sdktest.WithSettings(map[string]any{"fuse": fuse}))...)
	install(t, c, "busybox")
	putFuse(t, c)
	return c
}

// withFuse is withDisk, with the device that FUSE daemons open.
func withFuse(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
	t.Helper()
	c := withDisk(0o600, 0)(t, new)
	putFuse(t, c)
	return c
}

func putFuse(t testing.TB, c *sdktest.Container) {
	t.Helper()
	node := filepath.Join(c.Rootfs(), "dev/fuse")
	if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(10, 229))); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(node, 0o666); err != nil {
		t.Fatal(err)
	}
}

// script makes a handler that is a shell script.
func script(t *testing.T, c *sdktest.Container, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Rootfs(), "bin", name), []byte("#!/bin/busybox sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// patience bounds every wait for what must happen soon; only a failing test takes as long.
const patience = time.Minute

// waitForNone waits until no process of the container has this in its command line, which may begin with the name of a
// program. A process that ends loses its command line before it closes its files: so it also waits for processes of
// that name that are about to end. Other tests may run the same programs.
func waitForNone(t *testing.T, c *sdktest.Container, text string) {
	t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.Identity().InitPID))
	if err != nil {
		t.Fatal(err)
	}
	program, _, _ := strings.Cut(text, "\x00")
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found := ""
		processes, _ := filepath.Glob("/proc/[0-9]*")
		for _, process := range processes {
			line, _ := os.ReadFile(process + "/cmdline")
			name, _ := os.ReadFile(process + "/comm")
			runs, ends := bytes.Contains(line, []byte(text)), len(line) == 0 && strings.TrimSpace(string(name)) == program
			if !runs && !ends {
				continue // others that execute a program can hold up who asks for their namespace
			}
			if namespace, _ := os.Readlink(process + "/ns/pid"); namespace == own && (runs || !hasEnded(process)) {
				found = fmt.Sprintf("process %s, %s", filepath.Base(process), line)
			}
		}
		if found == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q still runs", found)
		}
	}
}

// hasEnded reports whether of a process, by its folder in procfs, nothing or a zombie is left.
func hasEnded(process string) bool {
	threads, _ := filepath.Glob(process + "/task/*/stat")
	for _, thread := range threads {
		stat, _ := os.ReadFile(thread)
		if _, state, ok := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" ")); ok && state[0] != 'Z' && state[0] != 'X' {
			return false
		}
	}
	return true
}

// TestHandlerIdentity compares what a handler is with what the caller is.
func TestHandlerIdentity(t *testing.T) {
	c := fuseContainer(t, map[string]string{"show": "show"})
	script(t, c, "show", `b=/bin/busybox
exec >/tmp/handler 2>&1
for n in cgroup ipc mnt net pid time user uts; do $b readlink /proc/self/ns/$n; done
$b grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|SigBlk|SigIgn|SigCgt|Umask)' /proc/$$/status
$b cat /proc/self/cgroup /proc/self/oom_score_adj
$b readlink /proc/$$/root
$b readlink /proc/$$/cwd
$b ls /proc/$$/fd
echo "args $0 $*"
$b env
exit 3`)
	lines := c.Call(t, "unshare mount", "umask 027", "dropcap 30", "mkdir /tmp/w", "chdir /tmp/w", "mkdir m",
		"sys mount s:-src s:m s:show MS_RDONLY|MS_NOEXEC s:a=b").Lines(t)
	if got := sdktest.Errnos(lines); got != "EINVAL" {
		t.Fatalf("got %s", got)
	}
	text, err := os.ReadFile(filepath.Join(c.Rootfs(), "tmp/handler"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	for _, want := range []string{
		"Umask:\t0027", "Uid:\t0\t0\t0\t0", "NoNewPrivs:\t1", "\n/tmp/w\n", "args /bin/show ./-src m -o nosuid,nodev,ro,noexec,a=b",
		"CapEff:\t000001ffbfffffff", "CapBnd:\t000001ffbfffffff", "SigBlk:\t0000000000000000",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q", want)
		}
	}
}

// TestHandlerFails has handlers that do not mount.
func TestHandlerFails(t *testing.T) {
	c := fuseContainer(t, map[string]string{
		"none": "nonesuch", "exits": "exits", "leaves": "leaves", "talks": "talks", "dies": "dies", "bad": "bad", "path": "/opt/none",
	})
	script(t, c, "exits", "echo sorry; exit 1")
	script(t, c, "leaves", "exit 0")
	script(t, c, "talks", `/bin/busybox yes word | /bin/busybox head -c 1000000
/bin/busybox yes word | /bin/busybox head -c 1000000 >&2
exit 1`)
	script(t, c, "dies", "kill -9 $$")
	script(t, c, "bad", "")
	if err := os.WriteFile(filepath.Join(c.Rootfs(), "bin/bad"), []byte("nothing"), 0o755); err != nil {
		t.Fatal(err)
	}
	for fstype, want := range map[string]string{
		"none": "ENODEV", "exits": "EINVAL", "leaves": "EINVAL", "talks": "EINVAL", "dies": "EINVAL", "bad": "ENODEV", "path": "ENODEV",
	} {
		t.Run(fstype, func(t *testing.T) {
			expect(t, c, want, "errno", "sys mount s:x s:m s:"+fstype+" 0 null")
		})
	}
	expect(t, c, "ENOENT EINVAL EFAULT ENOENT", "errno errno errno errno",
		"sys mount s:x s:nowhere s:exits 0 null", "sys mount null s:m s:exits 0 null",
		"sys mount bad s:m s:exits 0 null", "sys mount s:x s: s:exits 0 null")
	expect(t, c, "EPERM", "next", "dropcap 21", "sys mount s:x s:m s:exits 0 null")
	// A FUSE daemon's own mount goes to the kernel, which finds no descriptor 99.
	expect(t, c, "ENODEV", "next", "sys mount s:x s:m s:exits 0 s:fd=99,rootmode=40000,user_id=0,group_id=0")
}

// TestHandlerHangs ends with the time of the call, or with the caller.
func TestHandlerHangs(t *testing.T) {
	c := fuseContainer(t, map[string]string{"hangs": "hangs"}, sdktest.WithDeadline(5*time.Second))
	script(t, c, "hangs", "/bin/busybox sleep 4242; exit 0")
	expect(t, c, "ETIMEDOUT", "errno", "sys mount s:x s:m s:hangs 0 null")
	waitForNone(t, c, "sleep\x004242")
	p := c.Start(t, c.Install(t, sdktest.Caller(t)), within("sys mount s:x s:m s:hangs 0 null")...)
	for len(p.Calls()) < 1 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	p.Kill(t)
	waitForNone(t, c, "sleep\x004242")
}

// TestHandlerOfDead kills the caller at any time of the handler's start and of its life: none outlives it.
func TestHandlerOfDead(t *testing.T) {
	c := fuseContainer(t, map[string]string{"hangs": "hangs"})
	script(t, c, "hangs", "/bin/busybox sleep 4242; exit 0")
	program := c.Install(t, sdktest.Caller(t))
	for range 25 {
		p := c.Start(t, program, within("sys mount s:x s:m s:hangs 0 null")...)
		for len(p.Calls()) < 1 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(rand.N(100 * time.Millisecond))
		p.Kill(t)
		waitForNone(t, c, "sleep\x004242")
	}
}

// TestFUSE mounts with real programs.
func TestFUSE(t *testing.T) {
	c := fuseContainer(t, map[string]string{"ext4": "fuse2fs", "squashfs": "squashfuse", "front": "front"})
	install(t, c, "fuse2fs")
	install(t, c, "squashfuse")
	// One that stays in the foreground.
	script(t, c, "front", `exec /bin/fuse2fs -f "$@"`)
	copyFile(t, ext4(t), filepath.Join(c.Rootfs(), "image"))
	if err := os.Chown(filepath.Join(c.Rootfs(), "image"), sdktest.HostID, sdktest.HostID); err != nil {
		t.Fatal(err)
	}
	need(t, "mksquashfs")
	squash := filepath.Join(t.TempDir(), "squash")
	run(t, "mksquashfs", "/etc/hostname", squash, "-quiet")
	copyFile(t, squash, filepath.Join(c.Rootfs(), "squash"))
	for name, script := range map[string][]string{
		"fuse2fs":     {"sys mount s:/image s:m s:ext4 0 null", "stat m/lost+found", "sys umount2 s:m 0"},
		"read-only":   {"sys mount s:/image s:m s:ext4 MS_RDONLY null", "stat m/lost+found", "sys umount2 s:m 0"},
		"foreground":  {"sys mount s:/image s:m s:front 0 null", "stat m/lost+found", "sys umount2 s:m 0"},
		"squashfuse":  {"sys mount s:/squash s:m s:squashfs MS_RDONLY null", "stat m/hostname", "sys umount2 s:m 0"},
		"on a thread": {"thread", "sys mount s:/squash s:m s:squashfs MS_RDONLY null", "stat m/hostname", "sys umount2 s:m 0"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, c, "ok ok ok", "value", script...) })
	}
	expect(t, c, "EINVAL", "errno", "sys mount s:/squash s:m s:ext4 0 null")
	waitForNone(t, c, "fuse2fs\x00")
	waitForNone(t, c, "squashfuse\x00")
}

// TestNTFS3G mounts a block device by a daemon that asks for the type fuseblk.
func TestNTFS3G(t *testing.T) {
	need(t, "mkntfs")
	device := loop(t, image(t, 16<<20))
	run(t, "mkntfs", "--quiet", "--fast", "--force", device)
	c := fuseContainer(t, map[string]string{"none": "none"})
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	program := install(t, c, "ntfs-3g")
	if r := c.Run(t, program, "/dev/disk", "/mnt"); r.ExitCode != 0 || r.Kinds() != "value" {
		t.Fatalf("ntfs-3g: %+v", r)
	}
	result := c.Call(t, "write /mnt/new text", "openfile /mnt/new O_RDONLY", "sys umount2 s:/mnt 0")
	if got := sdktest.Errnos(result.Lines(t)); got != "ok ok" {
		t.Errorf("got %s", got)
	}
	waitForNone(t, c, "ntfs-3g\x00")
	free(t, device)
}
