package setxattr

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// layers makes the layers of an overlay in the container's /tmp/o, owned by it: lower/d/old, upper/d/new, and two empty
// directories.
func layers(t *testing.T, c *sdktest.Container) string {
	t.Helper()
	dir := filepath.Join(c.Rootfs(), "tmp/o")
	for _, name := range []string{".", "lower", "lower/d", "lower/d/old", "upper", "upper/d", "upper/d/new", "work", "merged"} {
		hostDirectory(t, c, filepath.Join("/tmp/o", name), sdktest.HostID, sdktest.HostID)
	}
	return dir
}

// listMerged mounts the overlay on the host, in a mount namespace that lasts no longer, and lists its directory d.
func listMerged(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	var err error
	done := make(chan struct{})
	target.GoOnThread(func() {
		defer close(done)
		names, err = mountAndList(dir)
	})
	<-done
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func mountAndList(dir string) ([]string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("private mounts: %w", err)
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if err := unix.Mount("none", dir+"/merged", "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("mount an overlay: %w", err)
	}
	defer unix.Unmount(dir+"/merged", 0) // the namespace may go later, and the next mount uses the same layers
	entries, err := os.ReadDir(dir + "/merged/d")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// TestOverlay has the container make a directory of an upper layer opaque: what the lower layer has there vanishes.
// When it removes the attribute, all is there again.
func TestOverlay(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, reading)
	dir := layers(t, c)
	for _, step := range []struct {
		script []string
		want   []string
	}{
		{nil, []string{"new", "old"}},
		{[]string{"sys setxattr s:/tmp/o/upper/d" + opaqueY}, []string{"new"}},
		{[]string{"sys removexattr s:/tmp/o/upper/d" + opaque}, []string{"new", "old"}},
	} {
		for _, l := range c.Call(t, step.script...).Lines(t) {
			if l.Errno != 0 {
				t.Fatalf("%q: %v", step.script, l.Errno)
			}
		}
		if got := listMerged(t, dir); !slices.Equal(got, step.want) {
			t.Errorf("after %q the overlay has %q, want %q", step.script, got, step.want)
		}
	}
}

// TestWithoutPlugin has the kernel refuse that.
func TestWithoutPlugin(t *testing.T) {
	c := sdktest.NewContainer(t, nil)
	dir := layers(t, c)
	if got := sdktest.Errnos(c.Call(t, "sys setxattr s:/tmp/o/upper/d"+opaqueY).Lines(t)); got != "EPERM" {
		t.Errorf("got %s", got)
	}
	if got := listMerged(t, dir); !slices.Equal(got, []string{"new", "old"}) {
		t.Errorf("the overlay has %q", got)
	}
}
