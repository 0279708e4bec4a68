package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// withNodes is a device whose filesystem has nodes: null, kmsg, and foreign, another device of the host.
func withNodes(t testing.TB) (device string) {
	t.Helper()
	foreign := loop(t, image(t, 1<<20))
	device = loop(t, ext4(t))
	mount := hostMount(t, device)
	defer mount.Close()
	for name, node := range map[string]struct {
		mode   uint32
		device uint64
	}{
		"null":    {unix.S_IFCHR, unix.Mkdev(1, 3)},
		"kmsg":    {unix.S_IFCHR, unix.Mkdev(1, 11)},
		"foreign": {unix.S_IFBLK, deviceOf(t, foreign)},
	} {
		path := fmt.Sprintf("/proc/self/fd/%d/%s", mount.Fd(), name)
		if err := unix.Mknod(path, node.mode|0o666, int(node.device)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return device
}

// denying makes a cgroup of version 2 in which no device may be opened but /dev/null and one block device.
func denying(t testing.TB, device string) sdktest.Option {
	t.Helper()
	g := newGuard(t, "version 2")
	number := deviceOf(t, device)
	attachProgram(t, g.dir, -1, []instruction{
		{0x61, 0x12, 0, 0},                         // r2 = ctx->access_type
		{0x61, 0x14, 4, 0},                         // r4 = ctx->major
		{0x61, 0x15, 8, 0},                         // r5 = ctx->minor
		{0xbf, 0x23, 0, 0},                         // r3 = r2
		{0x57, 0x03, 0, 0xffff},                    // r3 &= 0xffff
		{0x77, 0x02, 0, 16},                        // r2 >>= 16
		{0xb7, 0x00, 0, 1},                         // r0 = 1
		{0x15, 0x02, 8, 1},                         // if r2 == BPF_DEVCG_ACC_MKNOD: exit
		{0x55, 0x03, 3, 2},                         // unless r3 == BPF_DEVCG_DEV_CHAR: block
		{0x55, 0x04, 5, 1},                         // unless r4 == 1: deny
		{0x55, 0x05, 4, 3},                         // unless r5 == 3: deny
		{0x95, 0x00, 0, 0},                         // exit
		{0x55, 0x04, 2, int32(unix.Major(number))}, // block: unless r4 is the device's major number: deny
		{0x55, 0x05, 1, int32(unix.Minor(number))}, // unless r5 is its minor number: deny
		{0x95, 0x00, 0, 0},                         // exit
		{0xb7, 0x00, 0, 0},                         // deny: r0 = 0
		{0x95, 0x00, 0, 0},                         // exit
	})
	g.allow(t, 0, "rw") // what the guard itself denies, to the program above
	dir, err := os.Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return sdktest.WithCgroup(dir)
}

// denyingVersion1 has the container in a device cgroup of version 1 that denies as much, which it can leave.
func denyingVersion1(t testing.TB, device string) sdktest.Option {
	t.Helper()
	g := newGuard(t, "version 1")
	write(t, filepath.Join(g.dir, "devices.deny"), "a")
	number := deviceOf(t, device)
	for _, rule := range []string{"c 1:3 rw", "c *:* m", "b *:* m", fmt.Sprintf("b %d:%d rw", unix.Major(number), unix.Minor(number))} {
		write(t, filepath.Join(g.dir, "devices.allow"), rule)
	}
	dir, err := os.Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return sdktest.WithCgroup(dir)
}

// TestDeviceNodes opens nodes on a mount as the device cgroup of version 2 lets it, where nodev is off, and else not
// at all.
func TestDeviceNodes(t *testing.T) {
	open := []string{mountDisk, "openfile m/null O_RDWR", "openfile m/kmsg O_RDONLY", "openfile m/foreign O_RDONLY"}
	for name, test := range map[string]struct {
		nodev  bool
		cgroup func(t testing.TB, device string) sdktest.Option // nil: none that denies
		want   string
	}{
		"denying cgroup":              {false, denying, "ok ok EPERM EPERM"},
		"denying cgroup, and nodev":   {true, denying, "ok EACCES EACCES EACCES"},
		"denying cgroup of version 1": {false, denyingVersion1, "ok EACCES EACCES EACCES"},
		"no such cgroup":              {false, nil, "ok EACCES EACCES EACCES"},
	} {
		t.Run(name, func(t *testing.T) {
			device := withNodes(t)
			options := []sdktest.Option{sdktest.WithSettings(map[string]any{"allowed": []string{"ext4"}, "nodev": test.nodev})}
			if test.cgroup != nil {
				options = append(options, test.cgroup(t, device))
			}
			c := sdktest.NewContainer(t, handler{}, options...)
			putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
			expect(t, c, test.want, "value", open...)
			sdktest.RequireKernel(t, "6.6", "FSCONFIG_CMD_CREATE_EXCL")
			remounted := append([]string{mountDisk, "sys mount null s:m null MS_REMOUNT null"}, open[1:]...)
			remounted = append(remounted, "sys mount null s:m null MS_REMOUNT|MS_BIND null", "openfile m/null O_RDWR", "sys umount2 s:m 0")
			// The flags of a mount that are locked cannot be left out (do_reconfigure_mnt, fs/namespace.c).
			last := strings.Fields(test.want)[1]
			expect(t, c, strings.Replace(test.want, "ok", "ok ok", 1)+" EPERM "+last+" ok", "value value", remounted...)
		})
	}
}

// TestNosuidStays is locked without nodev too; nodev that the caller asks for is its own.
func TestNosuidStays(t *testing.T) {
	device := withNodes(t)
	settings := map[string]any{"allowed": []string{"ext4"}, "nodev": false}
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(settings), denying(t, device))
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	expect(t, c, "ok EACCES EPERM ok ok ok", "value", "sys mount s:/dev/disk s:m s:ext4 MS_NODEV null", "openfile m/null O_RDWR",
		"sys mount null s:m null MS_REMOUNT|MS_BIND null", "sys mount null s:m null MS_REMOUNT|MS_BIND|MS_NOSUID null", "openfile m/null O_RDWR",
		"sys umount2 s:m 0")
}
