package target_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// idOfDescriptor identifies an open file, a symbolic link too.
func idOfDescriptor(t *testing.T, file *os.File) fileID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fileID{st.Dev, st.Ino}
}

// idOfEntry is idOf, of a symbolic link itself.
func idOfEntry(t *testing.T, name string) fileID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return fileID{st.Dev, st.Ino}
}

// TestOpenPath has paths of all kinds of files of the target, below the container's root.
func TestOpenPath(t *testing.T) {
	mine := []string{"umask 022", "mkdir /tmp/d", "chdir /tmp/d", "mkdir e", "write f x", "do mknod s:p S_IFIFO|0600 0", "do symlink s:e s:l",
		"open e O_PATH", "open f O_PATH", "open l O_PATH|O_NOFOLLOW"}
	_, process, parked := park(t, append(mine, "do symlink s:l s:k", "do symlink s:no s:dangling", "do symlink s:loop s:loop",
		"do symlink s:/proc/self/cwd s:c", "do symlink s:/proc/self/root s:r", "do symlink s:/ s:slash",
		"do mkdir s:closed 0700", "write closed/f x", "do chown s:closed 5 5")...)
	root := fmt.Sprintf("/proc/%d/root", process.PID)
	for name, test := range map[string]struct {
		path             string
		followed, itself string // as the target's root sees it; empty: the error
		err              error
	}{
		"relative":           {"e", "/tmp/d/e", "/tmp/d/e", nil},
		"absolute":           {"/tmp/d/f", "/tmp/d/f", "/tmp/d/f", nil},
		"root":               {"/", "/", "/", nil},
		"slashes":            {"//tmp//d//e//", "/tmp/d/e", "/tmp/d/e", nil},
		"dot":                {".", "/tmp/d", "/tmp/d", nil},
		"fifo":               {"p", "/tmp/d/p", "/tmp/d/p", nil},
		"link":               {"l", "/tmp/d/e", "/tmp/d/l", nil},
		"link and slash":     {"l/", "/tmp/d/e", "/tmp/d/e", nil},
		"link to a link":     {"k", "/tmp/d/e", "/tmp/d/k", nil},
		"dangling":           {"dangling", "", "/tmp/d/dangling", unix.ENOENT},
		"loop":               {"loop", "", "/tmp/d/loop", unix.ELOOP},
		"missing":            {"no", "", "", unix.ENOENT},
		"file and slash":     {"f/", "", "", unix.ENOTDIR},
		"file and dot":       {"f/.", "", "", unix.ENOTDIR},
		"closed":             {"closed/f", "/tmp/d/closed/f", "/tmp/d/closed/f", nil},
		"self, descriptor":   {"/proc/self/fd/3", "/tmp/d/e", "", nil},
		"self, file":         {"/proc/self/fd/4", "/tmp/d/f", "", nil},
		"self, link":         {"/proc/self/fd/5", "/tmp/d/l", "", nil},
		"self, slash":        {"/proc/self/fd/3/", "/tmp/d/e", "/tmp/d/e", nil},
		"self, file, slash":  {"/proc/self/fd/4/", "", "", unix.ENOTDIR},
		"self, below":        {"/proc/self/cwd/l", "/tmp/d/e", "/tmp/d/l", nil},
		"self, no such":      {"/proc/self/fd/99", "", "", unix.ENOENT},
		"link to self":       {"c", "/tmp/d", "/tmp/d/c", nil},
		"link to self, dot":  {"c/.", "/tmp/d", "/tmp/d", nil},
		"link to a root":     {"r", "/", "/tmp/d/r", nil},
		"self and a slash":   {"/proc/self/cwd/slash", "/", "/tmp/d/slash", nil},
		"another's":          {"/proc/1/root", "/", "", nil},
		"another's, missing": {"/proc/1/root/no", "", "", unix.ENOENT},
	} {
		for _, way := range []struct {
			follow bool
			want   string
		}{{true, test.followed}, {false, test.itself}} {
			t.Run(fmt.Sprintf("%s, follow %v", name, way.follow), func(t *testing.T) {
				file, err := parked.OpenPath(t.Context(), unix.AT_FDCWD, test.path, way.follow)
				if way.want == "" && test.err == nil {
					return // a link of procfs, which has no other name
				}
				if way.want == "" {
					if !errors.Is(err, test.err) {
						t.Errorf("got %v, want %v", err, test.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				if got, want := idOfDescriptor(t, file), idOfEntry(t, root+way.want); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}

// TestOpenPathSelf has the links self and thread-self as the last component: the target's own directories.
func TestOpenPathSelf(t *testing.T) {
	_, process, parked := park(t, "do symlink s:/proc/self s:/tmp/l", "thread")
	credentials, err := parked.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("/proc/%d/root/proc/%d", process.PID, credentials.TGIDs[1])
	thread := fmt.Sprintf("%s/task/%d", own, credentials.PIDs[1])
	for path, want := range map[string]string{
		"/proc/self": own, "/proc/self/": own, "/tmp/l": own, "/tmp/l/": own, "/tmp/l/../self": own,
		"/proc/thread-self": thread, "/proc/thread-self/": thread,
	} {
		file, err := parked.OpenPath(t.Context(), unix.AT_FDCWD, path, true)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got := idOfDescriptor(t, file); got != idOf(t, want) {
			t.Errorf("%s is %v, want %v", path, got, idOf(t, want))
		}
		file.Close()
	}
}

func TestOpenPathHere(t *testing.T) {
	_, process, parked := park(t, "mkdir /tmp/d", "chdir /tmp/d", "write f x", "do symlink s:f s:l", "do symlink s:/proc/1/root s:magic",
		"do mkdir s:closed 0700", "write closed/f x", "do chown s:closed 5 5")
	dir := fmt.Sprintf("/proc/%d/root/tmp/d/", process.PID)
	for name, test := range map[string]struct {
		path   string
		follow bool
		want   string
		err    error
	}{
		"file":         {"f", true, "f", nil},
		"link":         {"l", true, "f", nil},
		"link itself":  {"l", false, "l", nil},
		"magic":        {"magic", true, "", unix.ELOOP},
		"magic itself": {"magic", false, "magic", nil},
		"closed":       {"closed/f", true, "", unix.EACCES},
		"missing":      {"no", true, "", unix.ENOENT},
	} {
		t.Run(name, func(t *testing.T) {
			var file *os.File
			var opened error
			if err := parked.Do(0, func() error {
				file, opened = target.OpenPathHere(unix.AT_FDCWD, test.path, test.follow)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !errors.Is(opened, test.err) {
				t.Fatalf("got %v, want %v", opened, test.err)
			}
			if opened != nil {
				return
			}
			defer file.Close()
			if got, want := idOfDescriptor(t, file), idOfEntry(t, dir+test.want); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestOpenDescriptor(t *testing.T) {
	_, process, parked := park(t, "mkdir /tmp/d", "open /tmp/d O_PATH", "write /tmp/f x", "open /tmp/f O_RDWR|O_NONBLOCK",
		"do mknod s:/tmp/p S_IFIFO|0600 0", "open /tmp/p O_RDWR", "do symlink s:d s:/tmp/l", "open /tmp/l O_PATH|O_NOFOLLOW",
		"open /tmp/f O_RDONLY", "do unlink s:/tmp/f")
	fd := func(n int) string { return filepath.Join("/proc", fmt.Sprint(process.PID), "fd", fmt.Sprint(n)) }
	for n, want := range map[int]int{3: unix.O_PATH, 4: unix.O_RDWR | unix.O_NONBLOCK, 5: unix.O_RDWR, 6: unix.O_PATH, 7: unix.O_RDONLY} {
		d, err := parked.OpenDescriptor(n)
		if err != nil {
			t.Errorf("%d: %v", n, err)
			continue
		}
		file, flags := d.File, d.Flags
		if !bytes.HasPrefix(d.Info, []byte("pos:\t0\nflags:")) {
			t.Errorf("%d: fdinfo %q", n, d.Info)
		}
		if got := idOfDescriptor(t, file); flags&(unix.O_PATH|unix.O_ACCMODE|unix.O_NONBLOCK) != want || n != 6 && got != idOf(t, fd(n)) {
			t.Errorf("%d: flags %#o, %v", n, flags, got)
		}
		if own, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0); err != nil || own&unix.O_PATH == 0 {
			t.Errorf("%d: opened with %#o, %v", n, own, err)
		}
		file.Close()
	}
	for _, n := range []int{99, -1, -100, 1 << 30} {
		if _, err := parked.OpenDescriptor(n); !errors.Is(err, unix.EBADF) {
			t.Errorf("%d: %v", n, err)
		}
	}
	process.Kill(t)
	process.Wait(t)
	if _, err := parked.OpenDescriptor(3); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("of a dead thread: %v", err)
	}
}

func TestOpenStart(t *testing.T) {
	_, process, parked := park(t, "mkdir /tmp/d", "open /tmp/d O_PATH")
	before := descriptors(t)
	for name, test := range map[string]struct {
		fd   int
		path string
		want string // the target's directory; empty: none is opened
		err  error
	}{
		"relative":               {3, "n", "/tmp/d", nil},
		"empty":                  {3, "", "/tmp/d", nil},
		"absolute":               {3, "/n", "", nil},
		"absolute, bad":          {99, "/n", "", nil},
		"working directory":      {unix.AT_FDCWD, "n", "", nil},
		"bad":                    {99, "n", "", unix.EBADF},
		"another negative value": {-1, "n", "", unix.EBADF},
	} {
		dir, release, err := parked.OpenStart(test.fd, test.path)
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
		if err != nil {
			continue
		}
		if test.want == "" && dir != unix.AT_FDCWD {
			t.Errorf("%s: %d, want AT_FDCWD", name, dir)
		}
		if root := fmt.Sprintf("/proc/%d/root", process.PID); test.want != "" &&
			idOf(t, fmt.Sprintf("/proc/self/fd/%d", dir)) != idOf(t, root+test.want) {
			t.Errorf("%s: %d is not %s", name, dir, test.want)
		}
		release()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
