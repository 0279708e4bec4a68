package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// guard is a cgroup that says which block devices may be opened.
type guard struct {
	dir   string
	allow func(t testing.TB, device uint64, access string)
}

// controllers are those of the cgroups that know of devices, for sdktest.RequireCgroups.
var controllers = map[string]string{"version 1": "devices", "version 2": ""}

// newGuard makes a cgroup in which no block device may be opened, until the end of the test.
func newGuard(t testing.TB, version string) guard {
	t.Helper()
	sdktest.RequireRoot(t)
	dir, err := os.MkdirTemp(sdktest.RequireCgroups(t, controllers[version]), "mount-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroup(t, dir) })
	g := guard{dir, func(t testing.TB, device uint64, access string) { allowByFile(t, dir, device, access) }}
	if version == "version 2" {
		attached := -1
		g.allow = func(t testing.TB, _ uint64, access string) { attached = allowByProgram(t, dir, attached, access) }
	}
	g.allow(t, 0, "")
	return g
}

// removeCgroup waits for those who were killed.
func removeCgroup(t testing.TB, dir string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Errorf("remove cgroup %s: %v", dir, err)
			return
		}
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// allowByFile leaves one block device open, in version 1.
func allowByFile(t testing.TB, dir string, device uint64, access string) {
	t.Helper()
	write(t, filepath.Join(dir, "devices.deny"), "a")
	write(t, filepath.Join(dir, "devices.allow"), "c *:* rwm")
	if access != "" {
		write(t, filepath.Join(dir, "devices.allow"), fmt.Sprintf("b %d:%d %s", unix.Major(device), unix.Minor(device), access))
	}
}

// allowByProgram leaves all block devices open for this access, in version 2.
func allowByProgram(t testing.TB, dir string, replaced int, access string) int {
	t.Helper()
	refused := int32(6)
	if strings.Contains(access, "r") {
		refused &^= 2 // BPF_DEVCG_ACC_READ
	}
	if strings.Contains(access, "w") {
		refused &^= 4 // BPF_DEVCG_ACC_WRITE
	}
	return attachProgram(t, dir, replaced, []instruction{
		{0x61, 0x12, 0, 0},       // r2 = ctx->access_type
		{0xbf, 0x23, 0, 0},       // r3 = r2
		{0x57, 0x03, 0, 0xffff},  // r3 &= 0xffff
		{0xb7, 0x00, 0, 1},       // r0 = 1
		{0x55, 0x03, 4, 1},       // unless r3 == BPF_DEVCG_DEV_BLOCK: exit
		{0x77, 0x02, 0, 16},      // r2 >>= 16
		{0x57, 0x02, 0, refused}, // r2 &= refused
		{0x15, 0x02, 1, 0},       // if r2 == 0: exit
		{0xb7, 0x00, 0, 0},       // r0 = 0
		{0x95, 0x00, 0, 0},       // exit
	})
}

// instruction is struct bpf_insn (include/uapi/linux/bpf.h).
type instruction struct {
	code, registers uint8
	offset          int16
	value           int32
}

// attachProgram attaches a device program to a cgroup of version 2, instead of another if replaced is its descriptor.
func attachProgram(t testing.TB, dir string, replaced int, program []instruction) int {
	t.Helper()
	license := []byte("GPL\x00")
	load := struct {
		kind, count           uint32
		instructions, license uint64
		rest                  [96]byte
	}{15, uint32(len(program)), uint64(uintptr(unsafe.Pointer(&program[0]))), uint64(uintptr(unsafe.Pointer(&license[0]))), [96]byte{}}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if errno != 0 {
		sdktest.Lacking(t, "needs BPF_PROG_TYPE_CGROUP_DEVICE: %v", errno)
	}
	t.Cleanup(func() { unix.Close(int(fd)) })
	cgroup, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(cgroup)
	attach := struct{ target, program, kind, flags, replaced uint32 }{uint32(cgroup), uint32(fd), 6, unix.BPF_F_ALLOW_MULTI, 0}
	if replaced >= 0 {
		attach.flags, attach.replaced = unix.BPF_F_ALLOW_MULTI|unix.BPF_F_REPLACE, uint32(replaced)
	}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		t.Fatalf("attach a program to %s: %v", dir, errno)
	}
	return int(fd)
}

// add brings what a container starts from now on into the cgroup.
func (g guard) add(t testing.TB, c *sdktest.Container) {
	t.Helper()
	write(t, filepath.Join(g.dir, "cgroup.procs"), strconv.Itoa(c.Identity().InitPID))
}

// put puts a device by the name /dev/disk into a container, which it may open in this way.
func (g guard) put(t testing.TB, c *sdktest.Container, device, access string) {
	t.Helper()
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	g.allow(t, deviceOf(t, device), access)
	g.add(t, c)
}

// withGuarded is a container with /dev/disk, which it may open in this way.
func withGuarded(version, access string, device func(t testing.TB) string) sdktest.Environment {
	return func(t testing.TB, new func(...sdktest.Option) *sdktest.Container) *sdktest.Container {
		t.Helper()
		g := newGuard(t, version)
		name := device(t)
		c := new()
		g.put(t, c, name, access)
		return c
	}
}

// hostMounted is a device that the host has mounted.
func hostMounted(version, access string) sdktest.Environment {
	return withGuarded(version, access, func(t testing.TB) string {
		t.Helper()
		device := loop(t, ext4(t))
		mount := hostMount(t, device)
		t.Cleanup(func() { mount.Close() })
		fill(t, mount, "secret")
		return device
	})
}

// unclean is a device whose journal is to be replayed, and which may only be read: nothing must write to it.
func unclean(version string) sdktest.Environment {
	return withGuarded(version, "r", func(t testing.TB) string {
		t.Helper()
		name := dirty(t)
		before, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		device := loop(t, name)
		t.Cleanup(func() {
			if after, err := os.ReadFile(name); err != nil || !bytes.Equal(before, after) {
				t.Errorf("%v; the device was written to", err)
			}
		})
		return device
	})
}

// eachVersion runs a test for each version of cgroups.
func eachVersion(t *testing.T, test func(t *testing.T, version string)) {
	t.Helper()
	for version := range controllers {
		t.Run(version, func(t *testing.T) { test(t, version) })
	}
}

// guarded is a container with /dev/disk, which it may open in this way.
func guarded(t *testing.T, g guard, device, access string) *sdktest.Container {
	t.Helper()
	return guardedBy(t, handler{}, g, device, access)
}

func guardedBy(t *testing.T, h sdk.Handler, g guard, device, access string) *sdktest.Container {
	t.Helper()
	c := sdktest.NewContainer(t, h, sdktest.WithSettings(map[string]any{"allowed": []string{"ext4", "squashfs"}, "shift": true}))
	g.put(t, c, device, access)
	return c
}

// createDisk is the newer way to a superblock.
var createDisk = []string{"fd fsopen s:ext4 1", "sys fsconfig @0 1 s:source s:/dev/disk 0", "sys fsconfig @0 6 null null 0"}

// fill puts a file that is root's alone onto a mount.
func fill(t testing.TB, mount *os.File, name string) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/%s", mount.Fd(), name), []byte("root's"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestHostMountsMeanwhile has a device that the container had mounted itself, and the host has now.
func TestHostMountsMeanwhile(t *testing.T) {
	sdktest.RequireKernel(t, "6.10", "F_DUPFD_QUERY")
	g := newGuard(t, "version 1")
	device := loop(t, ext4(t))
	c := guarded(t, g, device, "rw")
	expect(t, c, "ok ok", "value", mountDisk, "sys umount2 s:m 0")
	free(t, device)
	mount := hostMount(t, device)
	expect(t, c, "EBUSY", "errno", mountDisk)
	expect(t, c, "ok EBUSY", "addfd value errno", createDisk...)
	mount.Close()
	free(t, device)
	expect(t, c, "ok ok ok ok ok", "value value value", mountDisk, "mkdir n", "sys mount s:/dev/disk s:n s:ext4 0 null",
		"sys umount2 s:m 0", "sys umount2 s:n 0", mountDisk)
}

// TestSuccessorOfOwn has a superblock of the host in the place of the container's own between the look and the mount.
func TestSuccessorOfOwn(t *testing.T) {
	sdktest.RequireRoot(t)
	device := loop(t, ext4(t))
	f := extFilesystem()
	f.name, f.driver = "ext4", "ext4"
	o := order{filesystem: &f, source: &source{name: "/dev/disk", dev: deviceOf(t, device)}}
	s := &session{policy: &policy{}}
	held := func(mount *os.File) int {
		fd, err := unix.FcntlInt(mount.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	own := hostMount(t, device)
	m, err := s.check(held(own), o, createNew)
	if err != nil {
		t.Fatal(err)
	}
	m.close()
	if number, err := superblockNumber(int(own.Fd())); err != nil || number != o.source.dev {
		t.Errorf("number %#x, %v; want %#x", number, err, o.source.dev)
	}
	if m, err = s.check(held(own), o, createOwn); err != nil {
		t.Fatalf("the own superblock: %v", err)
	}
	m.close()
	own.Close()
	free(t, device)
	next := hostMount(t, device)
	defer next.Close()
	if _, err := s.check(held(next), o, createOwn); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the host's superblock: %v", err)
	}
}

// dirty is an image of ext4 whose journal is to be replayed.
func dirty(t testing.TB) string {
	t.Helper()
	name := ext4(t)
	mount := hostMount(t, loop(t, name))
	defer mount.Close()
	fill(t, mount, "new")
	root, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", mount.Fd()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	if err := unix.Syncfs(root); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "dirty")
	copyFile(t, name, copied)
	need(t, "debugfs")
	if features := run(t, "debugfs", "-R", "features", copied); !strings.Contains(features, "needs_recovery") {
		t.Fatalf("the journal is clean: %s", features)
	}
	return copied
}

// TestWriteAccess is proven anew for each change to read-write.
func TestWriteAccess(t *testing.T) {
	sdktest.RequireKernel(t, "6.10", "F_DUPFD_QUERY")
	const tries = "openfile /tmp/m/x O_CREAT|O_WRONLY"
	pick := func(options ...string) []string {
		script := []string{"fd fspick AT_FDCWD s:/tmp/m 1"}
		for _, o := range options {
			script = append(script, "sys fsconfig @0 0 s:"+o+" null 0")
		}
		return append(script, "sys fsconfig @0 7 null null 0", "do close @0", tries)
	}
	eachVersion(t, func(t *testing.T, version string) {
		g := newGuard(t, version)
		device := loop(t, ext4(t))
		c := guarded(t, g, device, "rw")
		call := func(want string, script ...string) {
			t.Helper()
			if got := sdktest.Errnos(c.Call(t, script...).Lines(t)); got != want {
				t.Errorf("%q: got %s, want %s", script, got, want)
			}
		}
		call("ok EROFS", "mkdir /tmp/m", "sys mount s:/dev/disk s:/tmp/m s:ext4 MS_RDONLY null", tries)
		g.allow(t, deviceOf(t, device), "r")
		call("EPERM EPERM EPERM ok EROFS", "sys mount null s:/tmp/m null MS_REMOUNT null", "sys mount null s:/tmp/m null MS_REMOUNT s:commit=9",
			"sys mount null s:/tmp/m null MS_REMOUNT|MS_RDONLY s:rw", "sys mount null s:/tmp/m null MS_REMOUNT|MS_RDONLY s:commit=9", tries)
		call("ok EROFS", pick()...)
		call("ok ok EROFS", pick("lazytime")...)
		call("ok ok EROFS", pick("ro")...)
		call("ok EPERM EROFS", pick("rw")...)
		call("ok ok EPERM EROFS", pick("ro", "rw")...)
		call("EPERM", "mkdir /tmp/n", "sys mount s:/dev/disk s:/tmp/n s:ext4 MS_RDONLY null")
		g.allow(t, deviceOf(t, device), "rw")
		call("ok ok", "sys mount null s:/tmp/m null MS_REMOUNT null", tries)
		call("ok ok EROFS", pick("ro")...)
		call("ok EROFS", pick()...)
		call("ok ok ok", pick("rw")...)
		call("ok ok", pick()...)
		call("ok EACCES EROFS", "do rename s:/dev/disk s:/dev/hidden", "sys mount null s:/tmp/m null MS_REMOUNT|MS_RDONLY null",
			"sys mount null s:/tmp/m null MS_REMOUNT null", tries)
		call("ok", "do rename s:/dev/hidden s:/dev/disk", "sys umount2 s:/tmp/m 0")
	})
}

// TestSwappedSource has the caller exchange its own device for one of the host's all the while.
func TestSwappedSource(t *testing.T) {
	g := newGuard(t, "version 1")
	own, foreign := loop(t, ext4(t)), loop(t, ext4(t))
	mount := hostMount(t, foreign)
	defer mount.Close()
	fill(t, mount, "secret")
	c := guarded(t, g, own, "rw")
	putNode(t, c, foreign, "dev/foreign", 0o600, sdktest.HostID)
	attempts := [][]string{within()}
	for range 40 {
		attempts[0] = append(attempts[0], mountDisk, "openfile m/secret O_RDONLY", "sys umount2 s:m 0")
	}
	for range 10 {
		if !tellsFiles() {
			break
		}
		attempts = append(attempts, within("fd fsopen s:ext4 1", "do fsconfig @0 1 s:source s:/dev/disk 0",
			"sys fsconfig @0 6 null null 0", "sys fsmount @0 0 0",
			"sys move_mount 4 s: AT_FDCWD s:m 4", "openfile m/secret O_RDONLY", "sys umount2 s:m MNT_DETACH"))
	}
	stop := sdktest.Swap(t, filepath.Join(c.Rootfs(), "dev/disk"), filepath.Join(c.Rootfs(), "dev/foreign"))
	defer stop()
	mounted, refused := 0, 0
	for _, script := range attempts {
		lines := c.Call(t, script...).Lines(t)
		for i := len(lines) - 1; i > 0; i -= 3 { // the mount, the file, the unmounting
			switch opened, unmounted := lines[i-1].Errno, lines[i].Errno; {
			case opened != unix.ENOENT:
				t.Fatalf("the host's file: %v", opened)
			case unmounted == 0:
				mounted++
			default:
				refused++
			}
			if len(lines) < 10 {
				break
			}
		}
	}
	t.Logf("%d mounts, %d refused", mounted, refused)
}

// TestWithoutExclusive has a kernel that cannot tell whether a superblock was there before.
func TestWithoutExclusive(t *testing.T) {
	createExclusive = 99
	defer func() { createExclusive = fsconfigCreateExcl }()
	eachVersion(t, func(t *testing.T, version string) {
		g := newGuard(t, version)
		device := loop(t, ext4(t))
		mount := hostMount(t, device)
		for access, want := range map[string]string{"": "EPERM", "r": "EPERM", "rw": "EBUSY"} {
			c := guardedBy(t, sdktest.InProcess(handler{}), g, device, access)
			expect(t, c, want, "errno", mountDisk)
			if tellsFiles() {
				expect(t, c, "ok "+want, "addfd value errno", createDisk...)
			}
		}
		mount.Close()
		free(t, device)
		c := guardedBy(t, sdktest.InProcess(handler{}), g, device, "rw")
		expect(t, c, "ok EBUSY EPERM ok ok", "value errno next value", mountDisk, "mkdir n", "sys mount s:/dev/disk s:n s:ext4 0 null",
			"sys mount null s:m null MS_REMOUNT|MS_RDONLY null", "sys umount2 s:m 0", mountDisk)
	})
}

// TestHasExclusive is told by the kernel, and not by what is on a device.
func TestHasExclusive(t *testing.T) {
	sdktest.RequireRoot(t)
	sdktest.RequireKernel(t, "6.6", "FSCONFIG_CMD_CREATE_EXCL")
	known := knownFilesystems()
	tried := 0
	for _, name := range []string{"ext4", "xfs", "btrfs", "squashfs", "erofs"} {
		f := known[name]
		exclusive, err := hasExclusive(&f)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		tried++
		if err != nil || !exclusive {
			t.Errorf("%s: %v, %v", name, exclusive, err)
		}
	}
	if tried == 0 {
		sdktest.Lacking(t, "needs a filesystem of block devices")
	}
}
