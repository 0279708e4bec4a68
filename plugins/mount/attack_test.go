package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// hostMount is a mount of the host's, of a device, that is nowhere yet.
func hostMount(t *testing.T, device string) *os.File {
	t.Helper()
	context, err := openContext(&filesystem{name: "ext4"}, []option{{"source", device, true}})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		t.Fatal(err)
	}
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(mount), "mount")
}

// bring attaches a mount in a container, and closes it.
func bring(t *testing.T, c *sdktest.Container, mount *os.File, path string) {
	t.Helper()
	defer mount.Close()
	if err := os.Mkdir(filepath.Join(c.Rootfs(), path), 0o755); err != nil {
		t.Fatal(err)
	}
	init, err := target.Open(c.Identity().InitPID)
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	if err := init.Do(target.CapabilitySet(unix.CAP_SYS_ADMIN, unix.CAP_DAC_READ_SEARCH), func() error {
		return unix.MoveMount(int(mount.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRemountOfSuccessor has a filesystem of the host that got the device number of one that the plugin made.
func TestRemountOfSuccessor(t *testing.T) {
	c, device := oneDisk(t, nil, 0o600, sdktest.HostID)
	expect(t, c, "ok ok", "value value", mountDisk, "sys mount null s:m null MS_REMOUNT null")
	free(t, device)
	bring(t, c, hostMount(t, device), "/tmp/foreign")
	result := c.Call(t, "sys mount null s:/tmp/foreign null MS_REMOUNT|MS_RDONLY null", "fd fspick AT_FDCWD s:/tmp/foreign 1",
		"sys fsconfig @0 0 s:ro null 0", "sys fsconfig @0 7 null null 0", "do close @0", "sys umount2 s:/tmp/foreign 0")
	if got := errnos(result.Lines(t)); got != "EPERM ok EPERM ok" {
		t.Errorf("the caller gets %s: %s", got, kinds(result))
	}
	free(t, device)
}

// TestOptionIDs are the container's, in whatever form the kernel would read them.
func TestOptionIDs(t *testing.T) {
	f := extFilesystem()
	s := &session{container: sdk.Container{UIDMap: []sdk.IDMapping{{Inside: 0, Outside: 1000, Length: 10}}}, policy: &policy{}}
	for text, want := range map[string]string{
		"0": "1000", "07": "1007", "0x9": "1009", "10": "", "+0": "", "+5": "", "0\n": "", "": "", "-1": "", "4294967296": "",
	} {
		got, err := s.translate(&f, option{"resuid", text, true})
		if want == "" && !errors.Is(err, unix.EINVAL) || want != "" && (err != nil || got.value != want) {
			t.Errorf("resuid=%q becomes %v, %v, want %q", text, got, err, want)
		}
	}
}
