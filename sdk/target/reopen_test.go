package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestReopen opens files anew as the target may, whatever their names lead to by then.
func TestReopen(t *testing.T) {
	asUser := []string{"do prctl PR_SET_SECUREBITS 4", "setgroups 9", "setuid 8", "dropcap 1", "dropcap 2"}
	for name, test := range map[string]struct {
		script []string
		owner  int
		mode   os.FileMode
		flags  int
		want   error
	}{
		"own":                        {nil, sdktest.HostID, 0o600, unix.O_RDWR, nil},
		"another's":                  {nil, sdktest.HostID + 9, 0o600, unix.O_RDWR, nil},
		"another's, no capability":   {[]string{"dropcap 1", "dropcap 2"}, sdktest.HostID + 9, 0o600, unix.O_RDONLY, unix.EACCES},
		"a group's":                  {asUser, sdktest.HostID + 9, 0o660, unix.O_RDWR, nil},
		"the host's":                 {nil, 0, 0o600, unix.O_RDONLY, unix.EACCES},
		"the host's, to read":        {nil, 0, 0o644, unix.O_RDONLY, nil},
		"the host's, only to read":   {nil, 0, 0o644, unix.O_RDWR, unix.EACCES},
		"in a nested user namespace": {[]string{"unshare user"}, sdktest.HostID + 9, 0o600, unix.O_RDONLY, unix.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, parked := park(t, test.script...)
			path := filepath.Join(c.Rootfs(), "tmp/file")
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, test.owner, test.owner), os.Chmod(path, test.mode)); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(path, unix.O_PATH, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if err := errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)); err != nil {
				t.Fatal(err)
			}
			fd, err := parked.Reopen(t.Context(), int(file.Fd()), test.flags)
			if !errors.Is(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			opened := os.NewFile(uintptr(fd), "opened")
			defer opened.Close()
			if idOfDescriptor(t, opened) != idOfDescriptor(t, file) {
				t.Error("it is another file")
			}
		})
	}
}

// TestReopenDead has a target that is gone, and errors that are not the file's.
func TestReopenDead(t *testing.T) {
	_, process, parked := park(t)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	before := descriptors(t)
	process.Kill(t)
	process.Wait(t)
	var errno unix.Errno
	if _, err := parked.Reopen(t.Context(), int(file.Fd()), unix.O_RDONLY); !errors.Is(err, os.ErrProcessDone) || errors.As(err, &errno) {
		t.Errorf("got %v", err)
	}
	if now := descriptors(t); now > before {
		t.Errorf("%d descriptors before, %d after", before, now)
	}
}
