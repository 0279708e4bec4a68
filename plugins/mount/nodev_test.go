package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// denying makes a cgroup of version 1 in which no device may be opened but /dev/null and one block device, and has
// start run in it.
func denying(t testing.TB, device string, start func()) {
	t.Helper()
	g := newGuard(t, "version 1")
	write(t, filepath.Join(g.dir, "devices.deny"), "a")
	for _, rule := range []string{"c 1:3 rw", "c *:* m", "b *:* m"} {
		write(t, filepath.Join(g.dir, "devices.allow"), rule)
	}
	dev := deviceOf(t, device)
	write(t, filepath.Join(g.dir, "devices.allow"), fmt.Sprintf("b %d:%d rw", unix.Major(dev), unix.Minor(dev)))
	own := ownDeviceCgroup(t)
	sdktest.NewContainer(t, handler{}) // starts the plugin's process, which outlives the cgroup
	move := func(dir string) { write(t, filepath.Join(dir, "cgroup.procs"), strconv.Itoa(os.Getpid())) }
	move(g.dir)
	defer move(own)
	start()
}

// ownDeviceCgroup is this process's.
func ownDeviceCgroup(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":devices:"); ok {
			return filepath.Join(sdktest.RequireCgroups(t, "devices"), path)
		}
	}
	sdktest.Lacking(t, "needs the devices controller of version 1")
	return ""
}

// TestDeviceNodes opens nodes on a mount as the device cgroup lets it, where nodev is off, and else not at all.
func TestDeviceNodes(t *testing.T) {
	open := []string{mountDisk, "openfile m/null O_RDWR", "openfile m/kmsg O_RDONLY", "openfile m/foreign O_RDONLY"}
	for name, test := range map[string]struct {
		nodev, denying bool
		want           string
	}{
		"denying cgroup":            {false, true, "ok ok EPERM EPERM"},
		"denying cgroup, and nodev": {true, true, "ok EACCES EACCES EACCES"},
		"no such cgroup":            {false, false, "ok EACCES EACCES EACCES"},
	} {
		t.Run(name, func(t *testing.T) {
			device := withNodes(t)
			var c *sdktest.Container
			start := func() {
				settings := map[string]any{"allowed": []string{"ext4"}, "nodev": test.nodev}
				c = sdktest.NewContainer(t, handler{}, sdktest.WithSettings(settings))
			}
			if test.denying {
				denying(t, device, start)
			} else {
				start()
			}
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
	var c *sdktest.Container
	denying(t, device, func() {
		c = sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"allowed": []string{"ext4"}, "nodev": false}))
	})
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	expect(t, c, "ok EACCES EPERM ok ok ok", "value", "sys mount s:/dev/disk s:m s:ext4 MS_NODEV null", "openfile m/null O_RDWR",
		"sys mount null s:m null MS_REMOUNT|MS_BIND null", "sys mount null s:m null MS_REMOUNT|MS_BIND|MS_NOSUID null", "openfile m/null O_RDWR",
		"sys umount2 s:m 0")
}
