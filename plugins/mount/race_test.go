package mount

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// TestConcurrent has 16 callers that mount and a device for each.
func TestConcurrent(t *testing.T) {
	c := sdktest.NewContainer(t, handler{}, sdktest.WithSettings(map[string]any{"allowed": []string{"ext4"}, "shift": true}),
		sdktest.WithDeadline(patience)) // 16 at once take long on a slow disk
	one := ext4(t)
	script := within()
	for i := range 16 {
		name := filepath.Join(t.TempDir(), "copy")
		copyFile(t, one, name)
		putNode(t, c, loop(t, name), "dev/disk"+string(rune('a'+i)), 0o600, sdktest.HostID)
		script = append(script, "mkdir m"+string(rune('a'+i)))
	}
	// Each thread has a device and a directory of its own by a link that is its number.
	for i := range 16 {
		script = append(script, "do symlink s:/dev/disk"+string(rune('a'+i))+" s:d"+number(i),
			"do symlink s:m"+string(rune('a'+i))+" s:t"+number(i))
	}
	script = append(script, "threads 16", "sys mount s:d%i s:t%i s:ext4 0 null", "threads 16", "sys umount2 s:t%i 0")
	lines := c.Call(t, script...).Lines(t)
	if got, want := sdktest.Errnos(lines), strings.TrimSpace(strings.Repeat("ok ", 32)); got != want {
		t.Errorf("got %s", got)
	}
}

// TestSameDevice has 16 callers that mount one device.
func TestSameDevice(t *testing.T) {
	sdktest.RequireKernel(t, "6.6", "FSCONFIG_CMD_CREATE_EXCL")
	c, device := oneDisk(t)
	script := within()
	for i := range 16 {
		script = append(script, "mkdir n"+number(i))
	}
	lines := c.Call(t, append(script, "threads 16", "sys mount s:/dev/disk s:n%i s:ext4 0 null")...).Lines(t)
	if got, want := sdktest.Errnos(lines), strings.TrimSpace(strings.Repeat("ok ", 16)); got != want {
		t.Errorf("got %s", got)
	}
	free(t, device)
}

// number is the text of %i.
func number(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return number(n/10) + number(n%10)
}

// free waits until nothing holds the device: no mount is left anywhere, no descriptor.
func free(t testing.TB, device string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		fd, err := unix.Open(device, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is held: %v", device, err)
		}
	}
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

// TestLeavesNothing counts descriptors and mounts of this process, and what is in the scratch namespace.
func TestLeavesNothing(t *testing.T) {
	var before int
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			c, device := oneDisk(t)
			expect(t, c, "ok ok EINVAL ENOENT ok", "value errno errno value", mountDisk, "sys umount2 s:m 0",
				"sys mount s:/dev/disk s:m s:ext4 0 s:nonsense", "sys mount s:nowhere s:m s:ext4 0 null", mountDisk)
			free(t, device)
		})
		if name == "first" {
			before = sdktest.PluginDescriptors(t, handler{})
		}
	}
	sdktest.AwaitPluginDescriptors(t, handler{}, before)
	s, err := openScratch()
	if err != nil {
		t.Fatal(err)
	}
	if n := entries(t, "/proc/self/fd/"+number(s.root)); n != 1 {
		t.Errorf("%d files are left in the scratch namespace", n-1)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), " intercede ") || strings.Contains(string(mounts), "/dev/disk") {
		t.Errorf("%v, mounts:\n%s", err, mounts)
	}
}

// TestKilled kills the caller at different times of a mount, before, between and after the steps that have an
// effect: nothing stays mounted in the container, and the device is free.
func TestKilled(t *testing.T) {
	image := ext4(t)
	for at := range 14 {
		done := make(chan bool, 1) // whether the mount is done, also where the caller has not lived to have its answer
		killed := func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error) {
			if req.Syscall != "mount" || req.Args[0] == 0 {
				return next.Handle(ctx, req)
			}
			caller, err := unix.PidfdOpen(req.TID, 0)
			if err != nil {
				done <- false
				return sdk.Response{}, err
			}
			time.AfterFunc(time.Duration(at)*700*time.Microsecond, func() {
				unix.PidfdSendSignal(caller, unix.SIGKILL, nil, 0)
				unix.Close(caller)
			})
			response, err := next.Handle(ctx, req)
			done <- err == nil && response.String() == "value 0"
			return response, err
		}
		c := sdktest.NewContainer(t, sdktest.Around{Handler: handler{}, Handle: killed}, sdktest.WithSettings(allowed))
		copied := filepath.Join(t.TempDir(), "image")
		copyFile(t, image, copied)
		device := loop(t, copied)
		putNode(t, c, device, "dev/disk", 0o600, sdktest.HostID)
		// The mount namespace is init's: it stays when the caller is gone.
		p := c.Start(t, c.Install(t, sdktest.Caller(t)), "mkdir /tmp/k", "sys mount s:/dev/disk s:/tmp/k s:ext4 0 null")
		p.Wait(t)
		if <-done { // the mount stays, as of a mount(2) that was done
			c.Call(t, "do umount2 s:/tmp/k 0")
		}
		free(t, device)
	}
}

// TestSwappedTarget exchanges the target for a link to somewhere closed meanwhile: the mount comes to the one or the
// other as the caller could reach it, and nowhere else.
func TestSwappedTarget(t *testing.T) {
	c, device := oneDisk(t)
	dir := filepath.Join(c.Rootfs(), "tmp/s")
	for _, d := range []string{dir, dir + "/a", dir + "/b"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stop := sdktest.Swap(t, dir+"/a", dir+"/b")
	lines := c.Call(t, "unshare mount", "repeat 10", "sys mount s:/dev/disk s:/tmp/s/a s:ext4 0 null").Lines(t)
	stop()
	for _, l := range lines {
		if l.Errno != 0 && l.Errno != unix.EBUSY {
			t.Errorf("got %v", l.Errno)
		}
	}
	free(t, device)
}
