package sdktest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// line is what the caller found, without the line's name.
func line(l sdktest.Line) string { return fmt.Sprintf("%d %d", l.Ret, int(l.Errno)) }

func TestContainerOutcomes(t *testing.T) {
	fails := func(err error) func(context.Context, *sdk.Request) (sdk.Response, error) {
		return func(context.Context, *sdk.Request) (sdk.Response, error) { return sdk.Response{}, err }
	}
	for name, test := range map[string]struct {
		handle func(context.Context, *sdk.Request) (sdk.Response, error)
		want   string // of the caller
		kind   string
	}{
		"value":    {always(sdk.Return(42)), "42 0", "value"},
		"errno":    {always(sdk.Errno(unix.EXDEV)), "-1 18", "errno"},
		"continue": {always(sdk.Continue()), "1 0", "continue"},
		"next":     {always(sdk.Next()), "1 0", "next"},
		"error":    {fails(errors.New("no luck")), "-1 5", "failure"},
		"zero":     {fails(nil), "-1 5", "failure"},
		"gone":     {fails(sdk.ErrGone), "-1 5", "gone"},
		"panic":    {func(context.Context, *sdk.Request) (sdk.Response, error) { panic("ouch") }, "-1 5", "failure"},
	} {
		t.Run(name, func(t *testing.T) {
			c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(test.handle, sdk.Syscall{Name: "getppid"})))
			result := c.Call(t, "sys getppid")
			if got := line(result.Lines(t)[0]); got != test.want || result.Kinds() != test.kind {
				t.Errorf("the caller got %s (%s), want %s (%s)", got, result.Kinds(), test.want, test.kind)
			}
		})
	}
}

func TestContainerArches(t *testing.T) {
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(always(sdk.Return(7)), sdk.Syscall{Name: "getppid"})))
	for _, test := range []struct {
		call func(testing.TB, ...string) sdktest.Result
		is32 bool
	}{{c.Call, false}, {c.Call32, true}} {
		result := test.call(t, "sys getppid")
		if got := line(result.Lines(t)[0]); got != "7 0" || len(result.Calls) != 1 || result.Calls[0].Arch.Is32Bit() != test.is32 {
			t.Errorf("32 bits %v: the caller got %s, calls %+v", test.is32, got, result.Calls)
		}
	}
}

func TestContainerConditions(t *testing.T) {
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(always(sdk.Return(7)), sdk.Syscall{Name: "mknodat", When: []sdk.Match{
		{{Arg: 2, Mask: unix.S_IFMT, Value: unix.S_IFCHR}},
		{{Arg: 2, Mask: unix.S_IFMT, Value: unix.S_IFBLK}, {Arg: 3, Mask: 0xff, Value: 3}},
	}})))
	result := c.Call(t, "sys mknodat -1 s:/c S_IFCHR 0", "sys mknodat -1 s:/b S_IFBLK 3", "sys mknodat -1 s:/b S_IFBLK 4",
		"sys mknodat -1 s:/p S_IFIFO 0")
	var got []string
	for _, l := range result.Lines(t) {
		got = append(got, line(l))
	}
	if want := []string{"7 0", "7 0", "-1 1", "0 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := "value value"; result.Kinds() != want {
		t.Errorf("calls %s, want %s", result.Kinds(), want)
	}
}

// TestContainerReads has both kinds of callers give every kind of memory.
func TestContainerReads(t *testing.T) {
	var mu sync.Mutex
	var got []string
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		path, pathFault := req.String(0)
		value, valueFault := req.Bytes(2)
		_, live, err := req.ReadString(ctx, req.Pointer(0), sdk.PathMax)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%d %d %q %d %d %v", len(path), int(pathFault), value, int(valueFault), int(live), err))
		return sdk.Errno(unix.ENODATA), nil
	}, sdk.Syscall{Name: "setxattr", Reads: []sdk.Read{sdk.ReadPath(0), sdk.ReadBytes(2, 3, 8)}})))

	script := []string{
		"sys setxattr s:/abc null hex:4142 2 0",
		"sys setxattr s: null null 0 0",
		"sys setxattr null null null 1 0",
		"sys setxattr bad null bad 1 0",
		"sys setxattr protnone null protnone 1 0",
		"sys setxattr edge:/abc null edge:ABC 3 0",
		"sys setxattr edge:/abc null edge:ABC 4 0",
		"sys setxattr long:4095 null hex:41 9 0",
		"sys setxattr long:4096 null hex:41 -1 0",
		"sys setxattr longpath:4095 null hex:41 1 0",
	}
	want := []string{
		`4 0 "AB" 0 0 <nil>`,
		`0 0 "" 0 0 <nil>`,
		`0 14 "" 14 14 <nil>`,
		`0 14 "" 14 14 <nil>`,
		`0 14 "" 14 14 <nil>`,
		`0 14 "ABC" 0 14 <nil>`,
		`0 14 "" 14 14 <nil>`,
		`4095 0 "" 7 0 <nil>`,
		`0 36 "" 7 36 <nil>`,
		`4095 0 "A" 0 0 <nil>`,
	}
	for name, call := range map[string]func(testing.TB, ...string) sdktest.Result{"64 bits": c.Call, "32 bits": c.Call32} {
		t.Run(name, func(t *testing.T) {
			got = nil
			call(t, script...).Lines(t)
			if !slices.Equal(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
		})
	}
}

func TestContainerWritesBack(t *testing.T) {
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(_ context.Context, req *sdk.Request) (sdk.Response, error) {
		return sdk.Return(0).Write(req.Pointer(0)+1, []byte{0xab, 0xcd}), nil
	}, sdk.Syscall{Name: "sysinfo"})))
	lines := c.Call(t, "sys sysinfo buf:4", "sys sysinfo bad").Lines(t)
	if got := fmt.Sprintf("%x", []byte(lines[0].Bufs[0])); got != "00abcd00" {
		t.Errorf("the buffer is %s", got)
	}
	if lines[1].Errno != unix.EFAULT {
		t.Errorf("a bad pointer gives %v", lines[1].Errno)
	}
}

func TestContainerAddsDescriptor(t *testing.T) {
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(context.Context, *sdk.Request) (sdk.Response, error) {
		null, err := os.Open(os.DevNull)
		return sdk.AddFD(null, true), err
	}, sdk.Syscall{Name: "getppid"})))
	result := c.Call(t, "fd getppid", "sys fcntl @0 F_GETFD", "sys read @0 buf:1 1")
	lines := result.Lines(t)
	if lines[0].Ret != unix.FD_CLOEXEC || lines[1].Ret != 0 || lines[1].Errno != 0 {
		t.Errorf("got %+v", lines)
	}
	if file := result.Calls[0].Outcome.File; file == nil || file.Close() != nil {
		t.Error("the outcome has no file")
	}
}

// TestContainerTarget checks that the handler reaches the very thread that calls.
func TestContainerTarget(t *testing.T) {
	var got []string
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		privileged, err := req.Privileged(ctx, unix.CAP_MKNOD)
		if err != nil {
			return sdk.Response{}, err
		}
		target, err := req.Target(ctx)
		if err != nil {
			return sdk.Response{}, err
		}
		credentials, err := target.Credentials()
		if err != nil {
			return sdk.Response{}, err
		}
		got = append(got, fmt.Sprintf("%v %d %d %o %v leader=%v", privileged, credentials.UIDs.Filesystem, credentials.GIDs.Filesystem,
			credentials.Umask, credentials.Groups, credentials.TGID == req.TID))
		return sdk.Continue(), nil
	}, sdk.Syscall{Name: "getppid"})))
	for name, test := range map[string]struct {
		script string
		want   string
	}{
		"root":        {"umask 027", "true 100000 100000 27 [] leader=true"},
		"thread":      {"thread", "true 100000 100000 22 [] leader=false"},
		"no leader":   {"leader-exits", "true 100000 100000 22 [] leader=false"},
		"child":       {"fork", "true 100000 100000 22 [] leader=true"},
		"no cap":      {"dropcap 27", "false 100000 100000 22 [] leader=true"},
		"user":        {"setgroups 5,6,setgid 7,setuid 8", "false 100008 100007 22 [100005 100006] leader=true"},
		"nested root": {"unshare user", "false 100000 100000 22 [] leader=true"},
	} {
		t.Run(name, func(t *testing.T) {
			got = nil
			script := []string{"umask 022"}
			for command := range strings.SplitSeq(strings.ReplaceAll(test.script, ",set", ";set"), ";") {
				script = append(script, command)
			}
			c.Call(t, append(script, "sys getppid")...).Lines(t)
			if len(got) != 1 || got[0] != test.want {
				t.Errorf("got %q, want %s", got, test.want)
			}
		})
	}
}

func TestContainerCallerKilled(t *testing.T) {
	entered := make(chan struct{})
	saw := make(chan error, 2)
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		close(entered)
		<-ctx.Done()
		saw <- ctx.Err()
		return sdk.Response{}, sdk.ErrGone
	}, sdk.Syscall{Name: "getppid"})))
	p := c.Start(t, c.Install(t, sdktest.Caller(t)), "sys getppid")
	<-entered
	p.Kill(t)
	if err := <-saw; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler's context: %v", err)
	}
	if result := p.Wait(t); result.Signal != unix.SIGKILL || result.ExitCode != -1 {
		t.Errorf("the caller ended with %d, %v", result.ExitCode, result.Signal)
	}
}

func TestContainerCheckValid(t *testing.T) {
	entered, killed := make(chan struct{}), make(chan struct{})
	saw := make(chan error, 1)
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		close(entered)
		<-killed
		err := req.CheckValid(ctx)
		if err == nil {
			err = errors.New("valid")
		}
		saw <- err
		return sdk.Response{}, err
	}, sdk.Syscall{Name: "getppid"})))
	p := c.Start(t, c.Install(t, sdktest.Caller(t)), "sys getppid")
	<-entered
	p.Kill(t)
	p.Wait(t)
	close(killed)
	// The stream may have ended already: then the question itself fails.
	if err := <-saw; err.Error() == "valid" {
		t.Error("a dead caller's notification is valid")
	}
}

// TestContainerDeadline has a handler that does not look at its context.
func TestContainerDeadline(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(context.Context, *sdk.Request) (sdk.Response, error) {
		<-release
		return sdk.Return(0), nil
	}, sdk.Syscall{Name: "getppid"})), sdktest.WithDeadline(50*time.Millisecond))
	result := c.Call(t, "sys getppid")
	if got := line(result.Lines(t)[0]); got != "-1 5" || result.Kinds() != "failure" {
		t.Errorf("the caller got %s, %s", got, result.Kinds())
	}
}

// TestContainerConcurrent holds calls back until all of them are there.
func TestContainerConcurrent(t *testing.T) {
	const callers = 8
	var inside atomic.Int32
	all := make(chan struct{})
	c := sdktest.NewContainer(t, sdktest.InProcess(newHandler(func(ctx context.Context, _ *sdk.Request) (sdk.Response, error) {
		if inside.Add(1) == callers {
			close(all)
		}
		select {
		case <-all:
			return sdk.Return(1), nil
		case <-ctx.Done():
			return sdk.Response{}, ctx.Err()
		}
	}, sdk.Syscall{Name: "getppid"})))
	result := c.Call(t, "threads "+strconv.Itoa(callers), "repeat 3", "sys getppid")
	for _, l := range result.Lines(t) {
		if line(l) != "1 0" {
			t.Errorf("got %s", line(l))
		}
	}
	if len(result.Calls) != 3*callers {
		t.Errorf("%d calls", len(result.Calls))
	}
}

// TestContainerLikeRealRoot performs mknodat for the caller, and compares with a caller that needs nobody.
func TestContainerLikeRealRoot(t *testing.T) {
	trial := newHandler(func(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
		path, fault := req.Path(1)
		if fault != 0 {
			return sdk.Errno(fault), nil
		}
		caller, err := req.Target(ctx)
		if err != nil {
			return sdk.Response{}, err
		}
		major, minor := req.Dev(3)
		made := caller.Do(target.CapabilitySet(unix.CAP_MKNOD), func() error {
			return unix.Mknod(path, req.Mode(2), int(unix.Mkdev(major, minor)))
		})
		var errno unix.Errno
		switch {
		case made == nil:
			return sdk.Return(0), nil
		case errors.As(made, &errno):
			return sdk.Errno(errno), nil
		default:
			return sdk.Response{}, made
		}
	}, sdk.Syscall{Name: "mknodat", Reads: []sdk.Read{sdk.ReadPath(1)}})
	script := []string{
		"umask 027", "mkdir /tmp/d", "chdir /tmp/d",
		"sys mknodat AT_FDCWD s:null S_IFCHR|0666 dev:1:3", "stat /tmp/d/null", "openfile null O_RDWR",
		"sys mknodat AT_FDCWD s:null S_IFCHR|0666 dev:1:3",
		"sys mknodat AT_FDCWD s: S_IFCHR 0", "sys mknodat AT_FDCWD s:no/such S_IFCHR 0", "sys mknodat AT_FDCWD bad S_IFCHR 0",
		"sys mknodat AT_FDCWD long:4096 S_IFCHR 0",
		"sys mknodat AT_FDCWD longpath:4095 S_IFCHR|0600 dev:1:5", "stat x",
		"mkdir /root/r", "chroot /root/r", "sys mknodat AT_FDCWD s:/inside S_IFBLK|0600 dev:7:300", "stat /inside",
	}
	got := sdktest.NewContainer(t, sdktest.InProcess(trial)).Call(t, script...)
	got.Lines(t)
	if want := sdktest.AsRoot(t, sdktest.Caller(t), script...); got.Stdout != want.Stdout {
		t.Errorf("got\n%s\nreal root gets\n%s", got.Stdout, want.Stdout)
	}
	without := sdktest.NewContainer(t, nil).Call(t, script[:4]...)
	if errno := without.Lines(t)[0].Errno; errno != unix.EPERM {
		t.Errorf("without the handler: %v", errno)
	}
}

func TestContainerMounts(t *testing.T) {
	c := sdktest.NewContainer(t, nil, sdktest.WithMount(sdktest.Tmpfs(t, unix.MOUNT_ATTR_NODEV), "/mnt/host"))
	lines := c.Call(t, "do mkdir s:/mnt/host/d 0700", "stat /mnt/host/d", "mkdir /mnt/own", "mount tmpfs none /mnt/own MS_NODEV -",
		"do mkdir s:/mnt/own/d 0700", "stat /mnt/own/d").Lines(t)
	for _, l := range lines {
		if l.Errno != 0 || l.UID != 0 {
			t.Errorf("got %+v", l)
		}
	}
	// The container is the same one for the next program.
	if l := c.Call(t, "stat /mnt/own/d").Lines(t)[0]; l.Errno != 0 {
		t.Errorf("the mount is gone: %v", l.Errno)
	}
	if entries, err := os.ReadDir(c.Rootfs() + "/mnt/host"); err != nil || len(entries) != 0 {
		t.Errorf("the host sees %v, %v", entries, err)
	}
}

func TestContainerOptions(t *testing.T) {
	trial := newHandler(always(sdk.Return(1)), sdk.Syscall{Name: "getppid"})
	trial.manifest.Settings = []sdk.Setting{{Key: "level", Type: sdk.Int, Default: 3}}
	var container sdk.Container
	var settings struct{ Level int }
	trial.attach = func(c sdk.Container, s sdk.Settings) error {
		container = c
		return s.Decode(&settings)
	}
	c := sdktest.NewContainer(t, sdktest.InProcess(trial), sdktest.WithSettings(map[string]any{"level": 4}))
	if lines := c.Call(t, "sys getppid", "write /root/file text", "stat /root/file").Lines(t); lines[0].Ret != 1 || lines[1].Errno != 0 {
		t.Errorf("got %+v", lines)
	}
	if text, err := os.ReadFile(c.Rootfs() + "/root/file"); string(text) != "text" || err != nil {
		t.Errorf("the host reads %q, %v", text, err)
	}
	if settings.Level != 4 || len(container.Cgroups) == 0 ||
		container.UIDMap[0] != (sdk.IDMapping{Inside: 0, Outside: sdktest.HostID, Length: sdktest.IDCount}) {
		t.Errorf("settings %+v, container %+v", settings, container)
	}
}

func TestContainerProgramMissing(t *testing.T) {
	c := sdktest.NewContainer(t, nil)
	failing := &failingTB{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(failing, "/no/such")
	}()
	<-done
	if !strings.Contains(failing.message, "exec /no/such: no such file or directory") {
		t.Errorf("the test failed with %q", failing.message)
	}
}

// failingTB keeps the message of a fatal failure.
type failingTB struct {
	testing.TB
	message string
}

func (f *failingTB) Fatalf(format string, args ...any) {
	f.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
