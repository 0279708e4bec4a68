package sdktest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// makeCgroup makes a cgroup of the v2 hierarchy, below its root.
func makeCgroup(t *testing.T) *os.File {
	t.Helper()
	sdktest.RequireRoot(t)
	name, err := os.MkdirTemp(sdktest.RequireCgroups(t, ""), "sdktest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := unix.Rmdir(name)
		for end := time.Now().Add(time.Minute); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = unix.Rmdir(name) {
			time.Sleep(5 * time.Millisecond) // those who were killed are about to leave
		}
		if err != nil {
			t.Errorf("remove cgroup %s: %v", name, err)
		}
	})
	dir, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

func TestWithCgroup(t *testing.T) {
	dir := makeCgroup(t)
	c := sdktest.NewContainer(t, nil, sdktest.WithCgroup(dir))
	path, ok := c.Identity().Cgroups[""]
	if !ok || filepath.Base(path) != filepath.Base(dir.Name()) {
		t.Errorf("the container is in %q, want %s", path, dir.Name())
	}
}
