package mount

import (
	"regexp"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m, handler{}) }

func TestScripts(t *testing.T) {
	sdktest.RunScripts(t, handler{}, "testdata", sdktest.Scripts{Alike: alike, On: map[string]sdktest.Environment{
		"disk":             withDisk(0o600, 0),
		"ext2-disk":        withDisk(0o600, 0, "-t", "ext2"),
		"closed-disk":      withDisk(0o600, ofHost),
		"readable-disk":    withDisk(0o644, ofHost),
		"open-disk":        withDisk(0o666, ofHost),
		"disk-of-9":        withDisk(0o600, 9),
		"disk-of-group-9":  withDisk(0o660, 9),
		"shared-with-host": onHostsMount,
		"fuse-disk":        withFuse,
		"loops":            loopContainer,
	}})
}

// TestDeviceCgroup has scripts for both versions of cgroups.
func TestDeviceCgroup(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		sdktest.RunScripts(t, handler{}, "testdata/cgroup", sdktest.Scripts{On: map[string]sdktest.Environment{
			"host-mounted":       hostMounted(version, ""),
			"host-mounted-r":     hostMounted(version, "r"),
			"host-mounted-rw":    hostMounted(version, "rw"),
			"unclean-r":          unclean(version),
			"read-only-device-r": withGuarded(version, "r", func(t testing.TB) string { return loop(t, ext4(t), "--read-only") }),
			"squashfs-r":         withGuarded(version, "r", func(t testing.TB) string { return loop(t, squashfs(t)) }),
		}})
	})
}

// TestListedDevice lists one device by its number.
func TestListedDevice(t *testing.T) {
	device := loop(t, ext4(t))
	settings := map[string]any{"allowed": []string{"ext4"}, "devices": []string{run(t, "stat", "-c", "%Hr:%Lr", device)}}
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(settings))
	putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
	expect(t, c, "ok ok", "value", mountDisk, "sys umount2 s:m 0")
}

var mountinfoLine = regexp.MustCompile(`^\d+ \d+ \d+:\d+ `)

// alike leaves of a mountinfo the mounts of filesystems of devices.
func alike(l *sdktest.Line) {
	if len(l.Bufs) == 1 && mountinfoLine.Match(l.Bufs[0]) {
		l.Bufs[0], l.Ret = sdktest.Buffer(deviceMounts(string(l.Bufs[0][:l.Ret]))), 0
	}
}

// deviceMounts are the mounts whose source is below /dev, without their numbers, and without what the plugin adds.
func deviceMounts(mountinfo string) string {
	var b strings.Builder
	for line := range strings.Lines(mountinfo) {
		if !strings.Contains(line, "- ext4 ") || strings.Contains(line, "sdktest") {
			continue
		}
		line = mountinfoLine.ReplaceAllString(line, "")
		for _, added := range []string{",nosuid,nodev", ",idmapped", ",errors=remount-ro"} {
			line = strings.ReplaceAll(line, added, "")
		}
		b.WriteString(line)
	}
	return b.String()
}
