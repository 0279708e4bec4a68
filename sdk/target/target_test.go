package target_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { sdktest.Main(m) }

// deadTID is the id of a process that is no more.
func deadTID(t *testing.T) int {
	t.Helper()
	command := exec.Command("/proc/self/exe", "-test.run=^$")
	command.Dir = "/"
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	return command.Process.Pid
}

// parker is a plugin that parks its callers.
type parker struct {
	tids    chan int
	release chan struct{}
}

func (*parker) Manifest() sdk.Manifest {
	return sdk.Manifest{Name: "parker", Version: "1", Syscalls: []sdk.Syscall{{Name: "getppid"}}, OnFailure: sdk.FailContinue()}
}

func (p *parker) Attach(context.Context, sdk.Container, sdk.Settings) (sdk.Session, error) {
	return p, nil
}

func (p *parker) Handle(_ context.Context, req *sdk.Request) (sdk.Response, error) {
	p.tids <- req.TID
	<-p.release
	return sdk.Return(0), nil
}

func (*parker) Close() error { return nil }

// park runs a script in a new container and gives the thread that waits at its end.
func park(t *testing.T, script ...string) (*sdktest.Container, *sdktest.Process, *target.Target) {
	t.Helper()
	return parkWith(t, nil, script...)
}

func parkWith(t *testing.T, options []sdktest.Option, script ...string) (*sdktest.Container, *sdktest.Process, *target.Target) {
	t.Helper()
	p := &parker{tids: make(chan int), release: make(chan struct{})}
	c := sdktest.NewContainer(t, sdktest.InProcess(p), options...)
	t.Cleanup(func() { close(p.release) })
	process := c.Start(t, c.Install(t, sdktest.Caller(t)), append(script, "sys getppid")...)
	parked, err := target.Open(<-p.tids)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { parked.Close() })
	return c, process, parked
}

// placed counts once all that the target keeps has been captured.
func placed(t *testing.T, of *target.Target, count func(*testing.T) int) int {
	t.Helper()
	if err := of.CaptureAll(); err != nil {
		t.Fatal(err)
	}
	return count(t)
}

func TestOpenDead(t *testing.T) {
	for name, tid := range map[string]int{"dead": deadTID(t), "out of range": 1 << 30} {
		if _, err := target.Open(tid); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tid := range []int{0, -1} {
		if opened, err := target.Open(tid); err == nil {
			t.Errorf("thread %d is %+v", tid, opened)
		}
	}
}

// TestMethodsDead kills the target before its methods are called: it stays a zombie, then is reaped.
func TestMethodsDead(t *testing.T) {
	sdktest.RequireRoot(t)
	command := exec.Command("/bin/sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	methods := map[string]func(*target.Target) error{
		"Alive":         func(s *target.Target) error { return s.Alive() },
		"Credentials":   func(s *target.Target) error { _, err := s.Credentials(); return err },
		"UserNamespace": func(s *target.Target) error { _, err := s.UserNamespace(); return err },
		"Do":            func(s *target.Target) error { return s.Do(0, func() error { t.Error("it ran"); return nil }) },
		"OpenAt": func(s *target.Target) error {
			_, err := s.OpenAt(t.Context(), unix.AT_FDCWD, "/", 0, 0)
			return err
		},
		"Duplicate":    func(s *target.Target) error { _, err := s.Duplicate(0); return err },
		"TranslateTID": func(s *target.Target) error { _, err := s.TranslateTID(1); return err },
	}
	open := func() *target.Target {
		opened, err := target.Open(command.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { opened.Close() })
		return opened
	}
	zombies, reaped := map[string]*target.Target{}, map[string]*target.Target{}
	for name := range methods {
		zombies[name], reaped[name] = open(), open()
	}
	if err := zombies["Alive"].Alive(); err != nil {
		t.Errorf("Alive of a running process: %v", err)
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, command.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for name, method := range methods {
		// The number of a zombie, and its pid namespace, are still its own, and it has no descriptors.
		if err := method(zombies[name]); name != "Alive" && name != "TranslateTID" && name != "Duplicate" &&
			!errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s of a zombie: %v", name, err)
		}
	}
	command.Wait()
	for name, method := range methods {
		if err := method(reaped[name]); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDuplicate has the duplicate of a pipe, and of nothing whose close a filesystem could hold up.
func TestDuplicate(t *testing.T) {
	_, _, parked := park(t, "write /tmp/file text", "open /tmp/file O_RDONLY", fmt.Sprintf("fd %d 0 0", unix.SYS_EVENTFD2))
	found := map[bool]int{}
	for fd := range 8 {
		d, err := parked.OpenDescriptor(fd)
		if errors.Is(err, unix.EBADF) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.File.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		d.File.Close()
		copied, err := parked.Duplicate(fd)
		waits := strings.HasPrefix(link, "/") || strings.HasPrefix(link, "socket:")
		if waits != errors.Is(err, unix.EOPNOTSUPP) || !waits && err != nil {
			t.Errorf("%s: %v", link, err)
		}
		found[err == nil]++
		if err == nil {
			unix.Close(copied)
		}
	}
	if found[true] == 0 || found[false] == 0 {
		t.Errorf("%d were duplicated, %d were not", found[true], found[false])
	}
	for _, fd := range []int{-1, unix.AT_FDCWD, 1000, 1 << 30} {
		if _, err := parked.Duplicate(fd); !errors.Is(err, unix.EBADF) {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
}

func TestTranslateTID(t *testing.T) {
	c, process, parked := park(t)
	if got, err := parked.TranslateTID(1); err != nil || got != c.Identity().InitPID {
		t.Errorf("init is %d, %v; want %d", got, err, c.Identity().InitPID)
	}
	credentials, err := parked.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parked.TranslateTID(credentials.PIDs[1]); err != nil || got != process.PID {
		t.Errorf("the caller is %d, %v; want %d", got, err, process.PID)
	}
	for _, tid := range []int{-1, 1 << 21, os.Getpid() + 1<<20} {
		if got, err := parked.TranslateTID(tid); !errors.Is(err, unix.ESRCH) {
			t.Errorf("tid %d is %d, %v", tid, got, err)
		}
	}
}

// place is where and who a thread is.
func place() (string, error) {
	cwd, err := unix.Getwd()
	if err != nil {
		return "", err
	}
	namespace, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		namespace = "no /proc"
	}
	uid, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0)
	gid, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, ^uintptr(0), 0, 0)
	groups, err := unix.Getgroups()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %d:%d %v caps %x%08x", cwd, namespace, uid, gid, groups, data[1].Effective, data[0].Effective), err
}

// onThreads runs fn on many OS threads at once.
func onThreads(n int, fn func()) {
	var all, there sync.WaitGroup
	there.Add(n)
	for range n {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			there.Wait()
			fn()
		})
	}
	all.Wait()
}

func TestDo(t *testing.T) {
	_, process, parked := park(t, "mkdir /root/inner", "do mknod s:/root/inner/proc S_IFREG|0644 0", "chroot /root/inner",
		"umask 027", "unshare mount", "mount tmpfs none / 0 -", "mkdir /dir", "chdir /dir", "do chown s:. 8 7",
		"setgroups 5,6", "setgid 7", "setuid 8")
	var before, during string
	var err error
	if before, err = place(); err != nil {
		t.Fatal(err)
	}
	err = parked.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
		if during, err = place(); err != nil {
			return err
		}
		return os.WriteFile("file", nil, 0o666)
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := "/dir no /proc 100008:100007 [100005 100006] caps 008000000"; during != want {
		t.Errorf("the place is %s, want %s", during, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/cwd/file", process.PID), &st); err != nil {
		t.Fatal(err)
	}
	if st.Uid != 100008 || st.Gid != 100007 || st.Mode != unix.S_IFREG|0o640 {
		t.Errorf("the file is %d:%d, %o", st.Uid, st.Gid, st.Mode)
	}
	onThreads(24, func() {
		if after, err := place(); err != nil || after[strings.IndexByte(after, ' '):] != before[strings.IndexByte(before, ' '):] {
			t.Errorf("a thread of the process is at %s, %v; was at %s", after, err, before)
		}
	})
}

// TestDoRestores uses the same threads for targets in different places, which must not find anything of each other.
func TestDoRestores(t *testing.T) {
	_, _, first := park(t, "mkdir /root/a", "chdir /root/a", "umask 077")
	_, _, second := park(t, "chdir /tmp", "umask 022", "setgroups 3", "setgid 1", "setuid 2")
	places := map[*target.Target]string{
		first:  "/root/a 100000:100000 [] 77",
		second: "/tmp 100002:100001 [100003] 22",
	}
	var all sync.WaitGroup
	for s, want := range places {
		for range 8 {
			all.Go(func() {
				for range 20 {
					err := s.Do(0, func() error {
						cwd, err := unix.Getwd()
						uid, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0)
						gid, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, ^uintptr(0), 0, 0)
						groups, _ := unix.Getgroups()
						mask := unix.Umask(0)
						unix.Umask(mask)
						if got := fmt.Sprintf("%s %d:%d %v %o", cwd, uid, gid, groups, mask); got != want {
							t.Errorf("got %s, want %s", got, want)
						}
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
}

func TestDoErrors(t *testing.T) {
	_, _, parked := park(t)
	own := errors.New("my own")
	if err := parked.Do(0, func() error { return own }); err != own {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if r := recover(); r != "ouch" {
				t.Errorf("recovered %v", r)
			}
		}()
		parked.Do(0, func() error { panic("ouch") })
	}()
	err := parked.Do(0, func() error {
		runtime.Goexit()
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
		t.Errorf("a function that ends its goroutine: %v", err)
	}
	if err := parked.Do(0, func() error { _, err := os.Stat("/proc/1"); return err }); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestDoPermissions lends CAP_MKNOD and nothing else.
func TestDoPermissions(t *testing.T) {
	_, _, parked := park(t, "do mkdir s:/tmp/other 0700", "do chown s:/tmp/other 5 5", "do mkdir s:/tmp/mine 0755", "do chown s:/tmp/mine 1 1",
		"setgid 1", "setuid 1")
	for name, test := range map[string]struct {
		lent target.Capabilities
		want error
	}{
		"/tmp/mine/null":  {target.CapabilitySet(unix.CAP_MKNOD), nil},
		"/tmp/mine/zero":  {0, unix.EPERM},
		"/tmp/other/null": {target.CapabilitySet(unix.CAP_MKNOD), unix.EACCES},
		"/null":           {target.CapabilitySet(unix.CAP_MKNOD), unix.EACCES},
	} {
		err := parked.Do(test.lent, func() error { return unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) })
		if err != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// TestDoLendsNothing has a target with all capabilities in its user namespace.
func TestDoLendsNothing(t *testing.T) {
	_, _, parked := park(t)
	during := ""
	if err := parked.Do(0, func() (err error) { during, err = place(); return err }); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(during, "100000:100000 [] caps 000000000") {
		t.Errorf("the place is %s", during)
	}
}

func TestDoKeepsNoDescriptor(t *testing.T) {
	_, _, parked := park(t)
	work := func() {
		if err := parked.Do(0, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	work()
	before := placed(t, parked, descriptors)
	for range 1000 {
		work()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// awaitDescriptors waits until this process has at most as many descriptors open as before.
func awaitDescriptors(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(patience); descriptors(t) > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before, %d after", before, descriptors(t))
		}
	}
}

// descriptors counts those of this process. Later there may be fewer: a file that nobody closed goes with the garbage.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestOpenAt has files of another user of the container and one of the host, each in a directory of mode 0700.
func TestOpenAt(t *testing.T) {
	setup := []string{"do mkdir s:/tmp/other 0700", "write /tmp/other/file other", "do chown s:/tmp/other 5 5"}
	for name, test := range map[string]struct {
		script []string
		path   string
		access uint32
		want   error
	}{
		"other's, as root":           {nil, "/tmp/other/file", 0, nil},
		"other's, without the power": {[]string{"dropcap 1", "dropcap 2"}, "/tmp/other/file", 0, unix.EACCES},
		"other's, as a user":         {[]string{"setgid 1", "setuid 1"}, "/tmp/other/file", 0, unix.EACCES},
		"other's, as nested root":    {[]string{"unshare user"}, "/tmp/other/file", 0, unix.EACCES},
		"the host's, as root":        {nil, "/tmp/host/file", 0, unix.EACCES},
		"relative":                   {[]string{"chdir /tmp"}, "other/file", 0, nil},
		"in a chroot":                {[]string{"chroot /tmp"}, "/other/file", 0, nil},
		"out of a chroot":            {[]string{"chroot /tmp"}, "/../../tmp/other/file", 0, unix.ENOENT},
		"missing":                    {nil, "/tmp/other/missing", 0, unix.ENOENT},
		"may write":                  {nil, "/tmp/other/file", unix.W_OK, nil},
		"may not execute":            {nil, "/tmp/other/file", unix.X_OK, unix.EACCES},
	} {
		t.Run(name, func(t *testing.T) {
			c, _, parked := park(t, append(setup[:len(setup):len(setup)], test.script...)...)
			host := filepath.Join(c.Rootfs(), "tmp/host")
			if err := errors.Join(os.Mkdir(host, 0o700), os.WriteFile(filepath.Join(host, "file"), []byte("host"), 0o666)); err != nil {
				t.Fatal(err)
			}
			file, err := parked.OpenAt(t.Context(), unix.AT_FDCWD, test.path, 0, test.access)
			if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if err != nil {
				return
			}
			defer file.Close()
			if text, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd())); err != nil || string(text) != "other" {
				t.Errorf("read %q, %v", text, err)
			}
		})
	}
}

func TestOpenAtRefuses(t *testing.T) {
	_, _, parked := park(t)
	if _, err := parked.OpenAt(t.Context(), unix.AT_FDCWD, "/tmp\x00/new", 0, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a path with a NUL: %v", err)
	}
}

func TestOpenAtConcurrent(t *testing.T) {
	_, _, parked := park(t)
	before := placed(t, parked, descriptors)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				file, err := parked.OpenAt(t.Context(), unix.AT_FDCWD, "/tmp", 0, 0)
				if err != nil {
					t.Error(err)
					return
				}
				file.Close()
			}
		})
	}
	all.Wait()
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestCredentials(t *testing.T) {
	c, _, parked := park(t, "umask 027", "setgroups 5,6", "setgid 7", "setuid 8", "thread")
	got, err := parked.Credentials()
	if err != nil {
		t.Fatal(err)
	}
	eight, seven := uint32(100008), uint32(100007)
	if got.UIDs != (target.IDs{Real: eight, Effective: eight, Saved: eight, Filesystem: eight}) ||
		got.GIDs != (target.IDs{Real: seven, Effective: seven, Saved: seven, Filesystem: seven}) ||
		!slices.Equal(got.Groups, []uint32{100005, 100006}) || got.Umask != 0o27 || got.Effective != 0 {
		t.Errorf("got %+v", got)
	}
	if got.TGID == parked.TID() || len(got.PIDs) != 2 || got.PIDs[0] != parked.TID() {
		t.Errorf("thread %d: %+v", parked.TID(), got)
	}
	if namespace, err := parked.UserNamespace(); err != nil || namespace != c.Identity().UserNamespace {
		t.Errorf("user namespace %+v, %v", namespace, err)
	}
}
