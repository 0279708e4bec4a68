package mknod

import (
	"os"
	"strings"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

// TestCoverLeavesNothing counts the plugin's descriptors, and looks for the covers' mounts in this process's namespace.
func TestCoverLeavesNothing(t *testing.T) {
	var before int
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			lines := sdktest.NewContainer(t, handler{}).Call(t, "umask 0", "mount tmpfs none /mnt 0 -", "repeat 5",
				"sys mknod s:/mnt/%i S_IFCHR|0666 dev:1:3", "stat /mnt/4").Lines(t)
			if got, want := sdktest.Errnos(lines), "ok ok ok ok ok ok"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
		if name == "first" {
			before = sdktest.PluginDescriptors(t, handler{})
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), " - tmpfs intercede ") {
		t.Errorf("%v, mounts:\n%s", err, mounts)
	}
	sdktest.AwaitPluginDescriptors(t, handler{}, before)
}

// entries counts those of a folder.
func entries(t *testing.T, dir string) int {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
