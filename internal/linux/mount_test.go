package linux

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

// A thread makes a tmpfs the root of a mount namespace of its own, with a copy of a directory's mount in it.
func TestMounts(t *testing.T) {
	require.Root(t)
	requireNoLeak(t)
	dir, other := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var seen []os.DirEntry
	var failure error
	OnThread(func() { seen, failure = pivotTo(dir, other) })
	if failure != nil {
		t.Fatal(failure)
	}
	if len(seen) != 1 || seen[0].Name() != "copy" {
		t.Errorf("the root has %v", seen)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("the mount is in the test's namespace: %v, %v", entries, err)
	}
}

func pivotTo(dir, other string) ([]os.DirEntry, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	root, err := NewMount("tmpfs", map[string]string{"source": "test", "mode": "0700"}, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	copied, err := CloneMount(other, 0)
	if err != nil {
		return nil, err
	}
	defer copied.Close()
	if err := errors.Join(Attach(root, dir), unix.Chdir(dir), unix.Mkdir("copy", 0o700), Attach(copied, "copy")); err != nil {
		return nil, err
	}
	if err := PivotHere(); err != nil {
		return nil, err
	}
	if err := unix.Access("/copy/file", unix.F_OK); err != nil {
		return nil, err
	}
	return os.ReadDir("/")
}

func TestMountErrors(t *testing.T) {
	require.Root(t)
	requireNoLeak(t)
	if _, err := NewMount("no-such-filesystem", nil, 0); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an unknown filesystem: %v", err)
	}
	if _, err := NewMount("tmpfs", map[string]string{"no-such": "parameter"}, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an unknown parameter: %v", err)
	}
	if _, err := CloneMount("/no/such/path", 0); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a path that is not there: %v", err)
	}
	mount, err := NewMount("tmpfs", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	if err := Attach(mount, "/no/such/path"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a path that is not there: %v", err)
	}
}
