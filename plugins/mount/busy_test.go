package mount

import (
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// TestUnmountAtOnce has containers mount at the same time, each of which unmounts at once what it has mounted: no
// helper process that the plugin forked for another holds a mount.
func TestUnmountAtOnce(t *testing.T) {
	sdktest.RequireKernel(t, "6.6", "FSCONFIG_CMD_CREATE_EXCL")
	const containers, rounds = 6, 40
	var running []*sdktest.Process
	for range containers {
		c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"allowed": []string{"ext4"}}),
			sdktest.WithDeadline(patience)) // several at once take long on a slow disk
		putNode(t, c, loop(t, ext4(t)), "/dev/disk", 0o600, sdktest.HostID)
		script := []string{"mkdir m"}
		for range rounds {
			script = append(script, mountDisk, "sys mount null s:m null MS_REMOUNT null", "sys umount2 s:m 0")
		}
		running = append(running, c.Start(t, c.Install(t, sdktest.Caller(t)), script...))
	}
	for _, p := range running {
		got := sdktest.Errnos(p.Wait(t).Lines(t))
		if want := strings.TrimSpace(strings.Repeat("ok ", 3*rounds)); got != want {
			t.Errorf("got %s", got)
		}
	}
}

// TestMountWhileUnmounting mounts a device while its filesystem is unmounted, and has much to write.
func TestMountWhileUnmounting(t *testing.T) {
	sdktest.RequireKernel(t, "6.6", "FSCONFIG_CMD_CREATE_EXCL")
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"allowed": []string{"ext4"}, "shift": true}),
		sdktest.WithDeadline(patience)) // for a slow disk
	device := loop(t, ext4(t))
	putNode(t, c, device, "/dev/disk", 0o600, sdktest.HostID)
	const script = `
		busybox mkdir /tmp/m /tmp/n
		: >/dev/null # for commands in the background
		for i in 1 2 3 4 5 6 7 8 9 10; do
			busybox mount -t ext4 /dev/disk /tmp/m && busybox seq 200000 >/tmp/m/file || exit
			busybox umount /tmp/m &
			busybox mount -t ext4 /dev/disk /tmp/n && wait && busybox umount /tmp/n || exit
		done
		echo done`
	p := c.Start(t, install(t, c, "busybox"), "sh", "-c", script).Wait(t)
	if p.Stdout != "done\n" {
		t.Fatalf("got %s, %s, %v", p.Stdout, p.Stderr, p.Calls)
	}
	free(t, device)
}
