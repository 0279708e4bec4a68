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
