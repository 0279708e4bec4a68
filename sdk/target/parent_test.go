package target_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// fileID identifies a file.
type fileID struct {
	dev, ino uint64
}

func idOf(t *testing.T, name string) fileID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return fileID{st.Dev, st.Ino}
}

// TestOpenParent has paths that end in a directory of the target, below its root.
func TestOpenParent(t *testing.T) {
	mine := []string{"umask 022", "mkdir /tmp/d", "chdir /tmp/d"}
	for name, test := range map[string]struct {
		script []string
		path   string
		dir    string // as the target's root sees it
		entry  string
		err    error
	}{
		"relative":               {mine, "n", "/tmp/d", "n", nil},
		"relative, deeper":       {mine, "../d/./n", "/tmp/d", "n", nil},
		"relative, slash":        {mine, "n//", "/tmp/d", "n//", nil},
		"absolute":               {mine, "/tmp/d/n", "/tmp/d", "n", nil},
		"root":                   {mine, "//", "/", ".", nil},
		"in the root":            {mine, "/n", "/", "n", nil},
		"self, cwd":              {mine, "/proc/self/cwd/n", "/tmp/d", "n", nil},
		"self, root":             {mine, "/proc/self/root/tmp/n", "/tmp", "n", nil},
		"self, descriptor":       {append(mine, "open . O_PATH", "chdir /"), "/proc/self/fd/3/n", "/tmp/d", "n", nil},
		"self, task":             {mine, "/proc/self/task/../cwd/n", "/tmp/d", "n", nil},
		"self, above":            {mine, "/proc/self/../self/cwd/n", "/tmp/d", "n", nil},
		"self, no such":          {mine, "/proc/self/fd/99/n", "", "", unix.ENOENT},
		"self itself":            {mine, "/proc/self", "", "", unix.EACCES},
		"self, missing":          {mine, "/proc/self/cwd/no/n", "", "", unix.ENOENT},
		"thread-self":            {append(mine, "thread", "do unshare CLONE_FS", "chdir /tmp"), "/proc/thread-self/cwd/n", "/tmp", "n", nil},
		"self, of the leader":    {append(mine, "thread", "do unshare CLONE_FS", "chdir /tmp"), "/proc/self/cwd/n", "/tmp/d", "n", nil},
		"no leader":              {append(mine, "leader-exits"), "/proc/thread-self/cwd/n", "/tmp/d", "n", nil},
		"link to self":           {append(mine, "do symlink s:/proc/self s:l"), "l/cwd/n", "/tmp/d", "n", nil},
		"links to a link":        {append(mine, "do symlink s:/proc/self/cwd s:l", "do symlink s:l s:k"), "/tmp/d/k/n", "/tmp/d", "n", nil},
		"relative link to self":  {append(mine, "do symlink s:../../proc/thread-self/cwd s:l"), "l/n", "/tmp/d", "n", nil},
		"endless link":           {append(mine, "do symlink s:l s:l"), "l/n", "", "", unix.ELOOP},
		"another's magic link":   {mine, "/proc/1/root/tmp/n", "/tmp", "n", nil},
		"magic link, then self":  {mine, "/proc/1/root/proc/self/cwd/n", "/tmp/d", "n", nil},
		"in a chroot":            {append(mine, "chroot /tmp"), "/d/n", "/d", "n", nil},
		"above a chroot":         {append(mine, "chroot /tmp"), "/../../d/n", "/d", "n", nil},
		"a link in a chroot":     {append(mine, "do symlink s:/d s:/tmp/l", "chroot /tmp"), "/l/n", "/d", "n", nil},
		"a mount namespace":      {append(mine, "unshare mount", "mount tmpfs none /mnt 0 -", "mkdir /mnt/e"), "/mnt/e/n", "/mnt/e", "n", nil},
		"file as parent":         {append(mine, "write f x"), "f/n", "", "", unix.ENOTDIR},
		"missing":                {mine, "no/n", "", "", unix.ENOENT},
		"by power":               {append(mine, "do mkdir s:e 0700", "do chown s:e 5 5"), "e/n", "/tmp/d/e", "n", nil},
		"without power":          {append(mine, "do mkdir s:e 0700", "do chown s:e 5 5", "dropcap 1", "dropcap 2"), "e/n", "", "", unix.EACCES},
		"by power of search":     {append(mine, "do mkdir s:e 0700", "do chown s:e 5 5", "dropcap 1"), "e/n", "", "", unix.EACCES},
		"nested user namespace":  {append(mine, "do mkdir s:e 0700", "do chown s:e 5 5", "unshare user"), "e/n", "", "", unix.EACCES},
		"magic link, not enough": {append(mine, "dropcap 19"), "/proc/1/root/tmp/n", "", "", unix.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			_, process, parked := park(t, test.script[:len(test.script):len(test.script)]...)
			file, entry, err := parked.OpenParent(t.Context(), unix.AT_FDCWD, test.path, unix.W_OK|unix.X_OK)
			if test.err != nil {
				if !errors.Is(err, test.err) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			got := idOf(t, fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
			thread := fmt.Sprintf("/proc/%d/task/%d", process.PID, parked.TID())
			if want := idOf(t, thread+"/root"+test.dir); got != want || entry != test.entry {
				t.Errorf("got %v and %q, want %v and %q", got, entry, want, test.entry)
			}
		})
	}
}

// TestOpenParentDir starts at a descriptor.
func TestOpenParentDir(t *testing.T) {
	c, process, parked := park(t, "mkdir /tmp/d", "chdir /tmp/d", "chroot /tmp")
	for dir, test := range map[string]struct{ path, want string }{
		"/proc": {"self/cwd/n", "cwd"},
		"/tmp":  {"d/n", "cwd"},
		"/":     {"n", ""},
	} {
		// The root of init is that of the container.
		start, err := os.Open(fmt.Sprintf("/proc/%d/root%s", c.Identity().InitPID, dir))
		if err != nil {
			t.Fatal(err)
		}
		defer start.Close()
		file, entry, err := parked.OpenParent(t.Context(), int(start.Fd()), test.path, 0)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		defer file.Close()
		want := fmt.Sprintf("/proc/%d/%s", process.PID, test.want)
		if test.want == "" {
			want = fmt.Sprintf("/proc/%d/root", c.Identity().InitPID)
		}
		if got := idOf(t, fmt.Sprintf("/proc/self/fd/%d", file.Fd())); got != idOf(t, want) || entry != "n" {
			t.Errorf("%s: got %v and %q, want %v", dir, got, entry, idOf(t, want))
		}
	}
}

func TestOpenParentHere(t *testing.T) {
	_, process, parked := park(t, "mkdir /tmp/d", "chdir /tmp/d", "do symlink s:/proc/1/root s:l", "do symlink s:/tmp/d s:k", "write f x",
		"do mkdir s:e 0700", "do chown s:e 5 5")
	cwd := idOf(t, fmt.Sprintf("/proc/%d/cwd", process.PID))
	for path, want := range map[string]error{
		"n": nil, "../d/n": nil, "/tmp/d/n": nil, "k/n": nil, "k/k/n/": nil,
		"/proc/1/root/tmp/d/n": unix.ELOOP, "/proc/1/cwd/n": unix.ELOOP, "l/tmp/n": unix.ELOOP,
		"": unix.ENOENT, "no/n": unix.ENOENT, "f/n": unix.ENOTDIR, "e/f/n": unix.EACCES,
	} {
		dir := -1
		var opened error
		if err := parked.Do(0, func() error {
			dir, _, opened = target.OpenParentHere(unix.AT_FDCWD, path)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if want != nil {
			if !errors.Is(opened, want) {
				t.Errorf("%s: %v, want %v", path, opened, want)
			}
			continue
		}
		if opened != nil {
			t.Errorf("%s: %v", path, opened)
			continue
		}
		if got := idOf(t, fmt.Sprintf("/proc/self/fd/%d", dir)); got != cwd {
			t.Errorf("%s is %v, want %v", path, got, cwd)
		}
		unix.Close(dir)
	}
}

// hostProcfs is the host's procfs as a detached mount.
func hostProcfs(t *testing.T) *os.File {
	t.Helper()
	sdktest.RequireRoot(t)
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	mount := os.NewFile(uintptr(fd), "proc")
	t.Cleanup(func() { mount.Close() })
	return mount
}

// TestOpenAtOwnDescriptors has a target that sees this process in a procfs, as with a pid namespace shared with the
// host. It reaches no descriptor of this process and no root of it, whatever path it takes, though the path be opened
// for it by a child of this process.
func TestOpenAtOwnDescriptors(t *testing.T) {
	outside, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	_, process, parked := parkWith(t, []sdktest.Option{sdktest.WithMount(hostProcfs(t), "/mnt/host")}, "chdir /tmp")
	number := strconv.Itoa(int(outside.Fd()))
	for _, self := range []string{"self", "thread-self", strconv.Itoa(os.Getpid())} {
		for _, path := range []string{"/fd/" + number, "/fd/" + number + "/..", "/task/" + strconv.Itoa(os.Getpid()) + "/fd/" + number} {
			file, err := parked.OpenAt(t.Context(), unix.AT_FDCWD, "/mnt/host/"+self+path, 0, 0)
			if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EACCES) {
				t.Errorf("%s%s: %v, %v", self, path, file, err)
			}
		}
	}
	for path, want := range map[string]string{"self/root/": "root", "self/cwd/": "cwd", "thread-self/cwd/": "cwd"} {
		file, _, err := parked.OpenParent(t.Context(), unix.AT_FDCWD, "/mnt/host/"+path+"n", 0)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := idOf(t, fmt.Sprintf("/proc/self/fd/%d", file.Fd())); got != idOf(t, fmt.Sprintf("/proc/%d/%s", process.PID, want)) {
			t.Errorf("%s is %v", path, got)
		}
		file.Close()
	}
	for _, pid := range []int{os.Getpid(), os.Getppid(), 1} {
		path := fmt.Sprintf("/mnt/host/%d/root/n", pid)
		if file, _, err := parked.OpenParent(t.Context(), unix.AT_FDCWD, path, 0); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v, %v", path, file, err)
		}
	}
}

// TestOpenParentSwapped exchanges links on the way to the directory: each time it must be one of those that the target
// reaches itself.
func TestOpenParentSwapped(t *testing.T) {
	outside, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	c, _, parked := parkWith(t, []sdktest.Option{sdktest.WithMount(hostProcfs(t), "/mnt/host")},
		"mkdir /tmp/d", "chdir /tmp/d", "do mkdir s:/tmp/links 0755")
	links := filepath.Join(c.Rootfs(), "tmp/links")
	closed := filepath.Join(c.Rootfs(), "tmp/closed")
	d := idOf(t, filepath.Join(c.Rootfs(), "tmp/d"))
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{
		fmt.Sprintf("/mnt/host/self/fd/%d", outside.Fd()), fmt.Sprintf("/proc/self/fd/%d", outside.Fd()),
		"/tmp/closed", "/proc/self/cwd", "/mnt/host/thread-self/root",
	} {
		t.Run(other, func(t *testing.T) {
			a, b := links+"/a", links+"/b"
			os.Remove(a)
			os.Remove(b)
			if err := errors.Join(os.Symlink("/mnt/host/self/cwd", a), os.Symlink(other, b)); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			var swapping sync.WaitGroup
			swapping.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
					}
				}
			})
			for range 30 {
				file, _, err := parked.OpenParent(t.Context(), unix.AT_FDCWD, "/tmp/links/a/n", unix.W_OK|unix.X_OK)
				if err != nil {
					continue
				}
				got := idOf(t, fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
				if root := idOf(t, c.Rootfs()); got != d && (other != "/mnt/host/thread-self/root" || got != root) {
					t.Errorf("the directory is %v, not the target's %v", got, d)
				}
				file.Close()
			}
			close(done)
			swapping.Wait()
		})
	}
}
