package target_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for what must happen soon; only a failing test takes as long.
const patience = time.Minute

// awaitReadable waits until there is something to be read, or the process has ended. Signals of the Go runtime end
// poll(2) early.
func awaitReadable(t *testing.T, fd int) {
	t.Helper()
	ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(ready, int(patience.Milliseconds()))
	for err == unix.EINTR {
		n, err = unix.Poll(ready, int(patience.Milliseconds()))
	}
	if n != 1 {
		t.Fatalf("descriptor %d is not readable: %v", fd, err)
	}
}

// someNamespace counts the processes of these tests.
var someNamespace = target.NamespaceID{Dev: 1, Ino: 1}

func TestStepsOpen(t *testing.T) {
	s := &target.Steps{}
	dir := s.Add("open a directory", unix.SYS_OPENAT, unix.AT_FDCWD, "/proc", unix.O_PATH, 0)
	s.Add("open a file", unix.SYS_OPENAT, dir, "version", unix.O_RDONLY, 0)
	fd, err := s.Open(t.Context(), someNamespace)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "version")
	defer file.Close()
	if text, err := io.ReadAll(file); err != nil || !strings.HasPrefix(string(text), "Linux") {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestStepsFail(t *testing.T) {
	s := &target.Steps{}
	s.Add("first", unix.SYS_GETPID)
	s.Add("second", unix.SYS_OPENAT, unix.AT_FDCWD, "/nonesuch", unix.O_RDONLY, 0)
	s.Add("third", unix.SYS_GETPID)
	for name, err := range map[string]error{"run": s.Run(t.Context(), someNamespace)} {
		var failed *target.StepError
		if !errors.As(err, &failed) || failed.What != "second" || !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v", name, err)
		}
	}
	killed := &target.Steps{}
	killed.Add("kill", unix.SYS_GETPID)
	killed.Add("exit", unix.SYS_EXIT_GROUP, 1)
	if _, err := killed.Open(t.Context(), someNamespace); err == nil {
		t.Error("a process that ends early answered")
	}
}

// A helper process has neither the processor nor the priority of the thread that it is forked from.
func TestStepsAreOrdinary(t *testing.T) {
	sdktest.RequireRoot(t)
	defer target.Raise()()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for name, raised := range map[string]unix.SchedAttr{
		"nice": {Policy: unix.SCHED_NORMAL, Nice: -5}, "real-time": {Policy: unix.SCHED_FIFO, Priority: 1},
	} {
		t.Run(name, func(t *testing.T) {
			set, attr := seenByHelper(t, func() {
				linux.KeepOn(0, linux.Processor())
				if err := unix.SchedSetAttr(0, &raised, 0); err != nil {
					sdktest.Lacking(t, "sched_setattr: %v", err)
				}
			})
			if set != all || attr.Policy != unix.SCHED_NORMAL || attr.Nice != 0 {
				t.Errorf("it may run on %v, want %v, and is scheduled by %+v", set, all, attr)
			}
		})
	}
}

// seenByHelper returns how a process is scheduled that is forked from a thread after prepare was called on it.
func seenByHelper(t *testing.T, prepare func()) (set unix.CPUSet, attr unix.SchedAttr) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	s := &target.Steps{}
	s.Keep(&set)
	s.Keep(&attr)
	s.KeepOpen(int(write.Fd()))
	s.Add("processors", unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), unsafe.Pointer(&set))
	s.Add("priority", unix.SYS_SCHED_GETATTR, 0, unsafe.Pointer(&attr), unix.SizeofSchedAttr, 0)
	s.Add("write", unix.SYS_WRITE, int(write.Fd()), unsafe.Pointer(&set), unsafe.Sizeof(set))
	s.Add("write", unix.SYS_WRITE, int(write.Fd()), unsafe.Pointer(&attr), unix.SizeofSchedAttr)
	done := make(chan error, 1)
	target.GoOnThread(func() {
		defer close(done)
		defer write.Close()
		prepare()
		done <- s.Run(t.Context(), someNamespace)
	})
	for _, into := range []any{&set, &attr} {
		if err := binary.Read(read, binary.NativeEndian, into); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return set, attr
}

// TestStepsDescriptors are none but those that the process is to have.
func TestStepsDescriptors(t *testing.T) {
	for name, test := range map[string]struct {
		keep bool
		want error
	}{"kept": {true, nil}, "other": {false, unix.EBADF}} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			s := &target.Steps{}
			if test.keep {
				s.KeepOpen(fd)
			}
			s.Add("fcntl", unix.SYS_FCNTL, fd, unix.F_GETFD)
			if err := s.Run(t.Context(), someNamespace); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// TestStepsHang ends with the context, and the process with it.
func TestStepsHang(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := &target.Steps{}
	s.Add("pause", unix.SYS_PPOLL, 0, 0, 0, 0, 0)
	if err := s.Run(ctx, someNamespace); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// installShell puts busybox into a container.
func installShell(t *testing.T, c *sdktest.Container) {
	t.Helper()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		sdktest.Lacking(t, "needs busybox, linked statically")
	}
	c.Install(t, "/bin/busybox")
}

// runShell runs a shell's script as a thread would, and returns what it says.
func runShell(t *testing.T, thread *target.Target, script string) (string, int) {
	t.Helper()
	output, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(output), "output")
	defer file.Close()
	p, err := thread.Start(t.Context(), target.Program{
		Paths: []string{"/nonesuch", "/bin/busybox"}, Args: []string{"sh", "-c", script}, Env: []string{"A=b"}, Output: output,
	})
	if err != nil {
		t.Fatal(err)
	}
	awaitReadable(t, p.Pidfd())
	code, err := p.ExitCode()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	text := make([]byte, 1<<16)
	n, _ := file.ReadAt(text, 0)
	return string(text[:n]), code
}

// TestStart compares a program with the thread in whose place it runs.
func TestStart(t *testing.T) {
	c, _, thread := park(t, "unshare mount", "umask 031", "setgroups 3,4", "dropcap 12", "mkdir /tmp/here", "chdir /tmp/here", "setgid 7")
	installShell(t, c)
	before := placed(t, thread, descriptors)
	text, code := runShell(t, thread, `b=/bin/busybox; `+
		`for n in cgroup ipc mnt net pid time user uts; do $b readlink /proc/self/ns/$n; done; $b pwd; `+
		`$b grep -E '^(Umask|Uid|Gid|Groups|CapEff|NoNewPrivs)' /proc/$$/status; `+
		`echo fds $($b ls /proc/$$/fd); $b env; exit 7`)
	if code != 7 {
		t.Errorf("exit status %d: %s", code, text)
	}
	if now := descriptors(t); now > before {
		t.Errorf("%d descriptors before, %d after", before, now)
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", thread.TID(), name))
		if err != nil || !strings.Contains(text, link+"\n") {
			t.Errorf("namespace %s of the thread is %s, %v: %s", name, link, err, text)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", thread.TID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") && !strings.Contains(text, line) {
			t.Errorf("no %q in %s", line, text)
		}
	}
	for _, want := range []string{"/tmp/here\n", "Umask:\t0031\n", "Gid:\t7\t7\t7\t7\n", "Groups:\t3 4 \n", "NoNewPrivs:\t1\n", "A=b\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}

func TestStartFails(t *testing.T) {
	c, _, thread := park(t)
	installShell(t, c)
	before := placed(t, thread, descriptors)
	_, err := thread.Start(t.Context(), target.Program{Paths: []string{"/bin/none", "/sbin/none"}, Args: []string{"none"}, Output: 2})
	var failed *target.StepError
	if !errors.As(err, &failed) || failed.What != target.StepExecute || failed.Errno != unix.ENOENT {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	program := target.Program{Paths: []string{"/bin/busybox"}, Args: []string{"busybox"}, Output: 2}
	if _, err := thread.Start(ctx, program); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Who is cancelled does not wait for the process's end.
	awaitDescriptors(t, before)
}

// Hierarchies of cgroups, by a controller of version 1; "": version 2.
const (
	unified = ""
	memory  = "memory"
)

var cgroupsMade atomic.Int64

// newCgroup makes a cgroup until the end of the test.
func newCgroup(t testing.TB, hierarchy string) *os.File {
	t.Helper()
	sdktest.RequireRoot(t)
	dir := filepath.Join(sdktest.RequireCgroups(t, hierarchy), fmt.Sprintf("steps%d-%d", os.Getpid(), cgroupsMade.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	cgroup, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cgroup.Close() })
	return cgroup
}

// inCgroup is the init of a new container in a cgroup.
func inCgroup(t testing.TB, cgroup *os.File) *target.Target {
	t.Helper()
	c := sdktest.NewContainer(t, nil)
	if err := os.WriteFile(filepath.Join(cgroup.Name(), "cgroup.procs"), []byte(strconv.Itoa(c.Identity().InitPID)), 0); err != nil {
		t.Fatal(err)
	}
	thread, err := target.Open(c.Identity().InitPID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { thread.Close() })
	return thread
}

// BenchmarkJoinCgroups is of a process that joins a cgroup now and then, beside one that joins none, and one that joins
// it by cgroup.procs.
func BenchmarkJoinCgroups(b *testing.B) {
	procs, err := os.OpenFile(filepath.Join(newCgroup(b, memory).Name(), "cgroup.procs"), os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { procs.Close() })
	join := func(hierarchy string) func(*testing.B, *target.Steps) func() {
		return func(b *testing.B, s *target.Steps) func() {
			thread := inCgroup(b, newCgroup(b, hierarchy))
			release, err := thread.JoinCgroups(s, "memory")
			if err != nil {
				b.Fatal(err)
			}
			return release
		}
	}
	for name, prepare := range map[string]func(*testing.B, *target.Steps) func(){
		"none":      func(*testing.B, *target.Steps) func() { return func() {} },
		"version-1": join(memory),
		"version-2": join(unified),
		"procs": func(_ *testing.B, s *target.Steps) func() {
			s.KeepOpen(int(procs.Fd()))
			s.Add("join", unix.SYS_WRITE, int(procs.Fd()), "0", 1)
			return func() {}
		},
	} {
		b.Run(name, func(b *testing.B) {
			s := &target.Steps{}
			defer prepare(b, s)()
			for b.Loop() {
				b.StopTimer()
				time.Sleep(20 * time.Millisecond)
				b.StartTimer()
				if err := s.Run(b.Context(), someNamespace); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestJoinCgroups moves the process, and not this one.
func TestJoinCgroups(t *testing.T) {
	for name, test := range map[string]struct {
		hierarchy   string
		controllers []string
	}{
		"version 1":            {memory, []string{"devices", "memory"}},
		"version 1, all":       {memory, nil},
		"version 2":            {unified, []string{"devices", "memory"}},
		"version 2, whichever": {unified, []string{"none"}},
		"version 2, all":       {unified, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cgroup := newCgroup(t, test.hierarchy)
			dir := cgroup.Name()
			thread := inCgroup(t, cgroup)
			s := &target.Steps{}
			release, err := thread.JoinCgroups(s, test.controllers...)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			s.Add("pause", unix.SYS_PPOLL, 0, 0, 0, 0, 0)
			before := members(t, dir)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.Run(ctx, someNamespace)
			}()
			for deadline := time.Now().Add(patience); members(t, dir) != before+1; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d processes are in the cgroup, and %d were before", members(t, dir), before)
				}
			}
			cancel()
			<-done
			own, err := os.ReadFile("/proc/self/cgroup")
			if err != nil || strings.Contains(string(own), filepath.Base(dir)) {
				t.Errorf("%v: this process is in the cgroup", err)
			}
			for deadline := time.Now().Add(patience); members(t, dir) != before && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// members counts the processes of a cgroup.
func members(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}
