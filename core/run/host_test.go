package run_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// What root of a container tries to reach of the host by what `run` does for it.

// TestInheritedDescriptors has a link of the root filesystem lead to a directory of the host that whoever starts the
// container has open.
func TestInheritedDescriptors(t *testing.T) {
	root := smallRootfs(t)
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := os.Symlink(fmt.Sprintf("/proc/self/fd/%d", fd), filepath.Join(root, "inside")); err != nil {
		t.Fatal(err)
	}
	err = startError(t, run.Options{Rootfs: root, Workdir: "/inside", Args: shell("ls")})
	if !strings.Contains(err.Error(), "enter the working directory /inside of the container") {
		t.Error(err)
	}
	if got := output(t, run.Options{Rootfs: root, Args: shell("ls /inside/ 2>/dev/null || echo nothing")}); got != "nothing\n" {
		t.Errorf("got %q", got)
	}
}

// TestClosed has users of the host reach what root of the container makes as root of the host.
func TestClosed(t *testing.T) {
	root := smallRootfs(t)
	start := func(options run.Options) error {
		options.Args = []string{"/bin/sh", "-c", "exit"}
		container, err := run.Start(t.Context(), options)
		if err == nil {
			container.Wait()
			err = container.Close()
		}
		return err
	}
	kinds := map[string]run.Options{
		"root":  {Rootfs: root},
		"mount": {Mounts: []string{"src=" + root + ",dst=/srv/x,idmap"}},
	}
	for name, options := range kinds {
		if err := start(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, mode := range []os.FileMode{0o755, 0o701, 0o710} { // of the test's directory, which was root's alone; a list shows as the last one
		if err := os.Chmod(filepath.Dir(root), mode); err != nil {
			t.Fatal(err)
		}
		for name, options := range kinds {
			if err := start(options); err == nil || !strings.Contains(err.Error(), "other users of this host can reach "+root) {
				t.Errorf("%s, mode %o: %v", name, mode, err)
			}
		}
	}
	for name, options := range map[string]run.Options{
		"ephemeral":       {Rootfs: root, Ephemeral: true},
		"read-only mount": {Mounts: []string{"src=" + root + ",dst=/srv/x,idmap,ro"}},
		"not mapped":      {Mounts: []string{"src=" + root + ",dst=/srv/x"}},
	} {
		if err := start(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	inner, open := dir+"/closed/inner", dir+"/open"
	idmapped := run.Options{Mounts: []string{"src=" + inner + ",dst=/srv/x,idmap"}}
	err := errors.Join(os.MkdirAll(inner, 0o755), os.Mkdir(open, 0o755), os.Chmod(dir+"/closed", 0o700), os.Chmod(filepath.Dir(dir), 0o755),
		unix.Mount(dir+"/closed", open, "", unix.MS_BIND, ""), start(idmapped), unix.Unmount(open, 0))
	if err != nil {
		t.Errorf("mounted elsewhere, and closed: %v", err)
	}
	if err := unix.Mount(inner, open, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(open, unix.MNT_DETACH)
	if err := start(idmapped); err == nil || !strings.Contains(err.Error(), "other users of this host can reach "+open) {
		t.Errorf("mounted elsewhere: %v", err)
	}
	// What is mounted is the directory that was looked at, by whatever path.
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(root, link), os.Chmod(root, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := start(run.Options{Rootfs: link}); err != nil {
		t.Errorf("a link: %v", err)
	}
	file := filepath.Join(root, "file")
	writeFile(t, file, "")
	err = start(run.Options{Mounts: []string{"src=" + file + ",dst=/srv/x,idmap"}})
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
}

// TestMountsStay has root of the container unmount what is mounted on a directory of the root filesystem, and on one of
// another mount.
func TestMountsStay(t *testing.T) {
	sdktest.RequireRoot(t)
	dir, conf, root := t.TempDir(), t.TempDir(), smallRootfs(t)
	writeFile(t, conf+"/file", "secret")
	if err := os.Mkdir(dir+"/conf", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"/hidden/file", "hidden")
	writeFile(t, root+"/bin/covered/file", "covered")
	writeFile(t, dir+"/empty/file", "empty")
	if err := os.Symlink("hidden", root+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(root+"/data", 0o755), os.Chmod(dir, 0o777), os.Chmod(conf+"/file", 0o666)); err != nil {
		t.Fatal(err)
	}
	got := finish(t, run.Options{
		Rootfs: root,
		Mounts: []string{
			"src=" + dir + ",dst=/data", "src=" + conf + ",dst=/data/conf,ro", "src=" + dir + "/empty,dst=/link",
			"src=" + dir + "/empty,dst=/made/later", "src=" + dir + "/empty,dst=/on/tmpfs",
			"src=" + dir + ",dst=/new", "src=" + conf + ",dst=/new/conf,ro",
		},
		Tmpfs: []string{"/on", "/bin/covered"},
		Args: shell(`exec 2>/dev/null
			for at in /data/conf /hidden /data /bin/covered /new/conf; do umount -l $at && echo unmounted $at; done
			for dir in /data/conf /new/conf; do mount -o remount,bind,rw $dir; echo x >$dir/file; cat $dir/file; done
			cat /hidden/file /made/later/file /on/tmpfs/file; ls /bin/covered`),
	})
	if got.stdout != "secretsecretemptyemptyempty" {
		t.Errorf("got %+v", got)
	}
}

// TestTargetsRefused has mounts that would be at another place than they seem to be, or protect nothing.
func TestTargetsRefused(t *testing.T) {
	dir, root := t.TempDir(), smallRootfs(t)
	writeFile(t, dir+"/conf/file", "")
	err := errors.Join(os.Symlink("conf", dir+"/link"), os.MkdirAll(root+"/a/b", 0o755), os.MkdirAll(root+"/x/y", 0o755),
		os.Symlink("/x", root+"/a/b/l"))
	if err != nil {
		t.Fatal(err)
	}
	for want, mounts := range map[string][]string{
		"the container could write to it by that at /data":       {"src=" + dir + ",dst=/data", "src=" + dir + "/conf,dst=/data/conf,ro"},
		"leads over a symbolic link in what is mounted at /data": {"src=" + dir + ",dst=/data", "src=/usr,dst=/data/link,ro"},
		"something else is there":                                {"src=" + dir + ",dst=/a/b/l", "src=/usr,dst=/x/y,ro"},
	} {
		err := startError(t, run.Options{Rootfs: root, Mounts: mounts, Args: shell("exit")})
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestSysIsLocked has root of the container make the copy of the host's /sys writable.
func TestSysIsLocked(t *testing.T) {
	got := finish(t, run.Options{Args: shell(`exec 2>/dev/null; mount -o remount,bind,rw /sys && echo rw
		mount -o remount,bind,ro,dev,suid,exec /sys && echo exec; umount -l /sys && echo unmounted
		grep -c ' /sys/fs/cgroup' /proc/self/mountinfo`)})
	if got.stdout != "unmounted\n0\n" && got.stdout != "1\n" {
		t.Errorf("got %+v", got)
	}
}

// TestRootOfTheHostHolds has a root filesystem whose changes are discarded keep what the host's mount of it forbids.
func TestRootOfTheHostHolds(t *testing.T) {
	root := smallRootfs(t)
	options := run.Options{Rootfs: root, Ephemeral: true, Args: shell("mount -o remount,bind,exec,suid,dev / && echo changed")}
	if err := errors.Join(unix.Mount(root, root, "", unix.MS_BIND, ""),
		unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID|unix.MS_NODEV, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(root, unix.MNT_DETACH) })
	if got := finish(t, options); got.stdout != "" || got.status == 0 {
		t.Errorf("got %+v", got)
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	if err := startError(t, options); !errors.Is(err, unix.EACCES) {
		t.Error(err)
	}
}

// TestOwnCgroups has the container be in cgroups of its own in each hierarchy, but for one of version 1 with time for
// real-time policies.
func TestOwnCgroups(t *testing.T) {
	container := start(t, run.Options{Args: shell("read x"), Stdin: openPipe(t)})
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", container.InitPID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		own, real := strings.HasSuffix(line, "/intercede-"+container.ID()), strings.Contains(line, ":cpu:") || strings.Contains(line, ":cpu,")
		if !own && !real {
			t.Errorf("%s", line)
		}
	}
}
