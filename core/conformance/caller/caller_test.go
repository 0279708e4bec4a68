package caller

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	run.Init()
	Init()
	os.Exit(m.Run())
}

const limit = 30 * time.Second

// start starts a container, whose listener, if there is one, nobody has.
func start(t *testing.T, filter []unix.SockFilter) (*Container, *os.File) {
	t.Helper()
	require.Root(t)
	var listener *os.File
	c, err := Start(t.Context(), filter, limit, func(started *run.Container) error {
		listener = started.Listener()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		listener.Close()
	})
	return c, listener
}

// call has one call made.
func call(t *testing.T, made func(...Call) ([]Result, error), c Call) Result {
	t.Helper()
	results, err := made(c)
	if err != nil || len(results) != 1 {
		t.Fatalf("%v: %v, %v", c, results, err)
	}
	return results[0]
}

func number(n uint64) Argument { return Argument{Value: n} }

// TestMemory has the kernel look at every kind of memory.
func TestMemory(t *testing.T) {
	c, _ := start(t, nil)
	const atFDCWD = 1<<64 - 100
	stat := func(path Argument) Call {
		return Call{Name: "newfstatat", Number: unix.SYS_FACCESSAT, Args: [6]Argument{number(atFDCWD), path, number(0)}}
	}
	sysinfo := func(info Argument) Call {
		return Call{Name: "sysinfo", Number: unix.SYS_SYSINFO, Args: [6]Argument{info}}
	}
	for name, test := range map[string]struct {
		call Call
		want syscall.Errno
	}{
		"text":            {stat(Argument{Kind: Text, Text: "/"}), 0},
		"no such":         {stat(Argument{Kind: Text, Text: "no"}), unix.ENOENT},
		"long":            {stat(Argument{Kind: Long, Size: 300}), unix.ENAMETOOLONG},
		"long path":       {stat(Argument{Kind: Long, Size: 5000}), unix.ENAMETOOLONG},
		"edge":            {stat(Argument{Kind: Edge, Text: "/"}), unix.EFAULT},
		"null":            {stat(Argument{Kind: Null}), unix.EFAULT},
		"bad":             {stat(Argument{Kind: Bad}), unix.EFAULT},
		"unreadable":      {stat(Argument{Kind: Unreadable}), unix.EFAULT},
		"read-only":       {stat(Argument{Kind: ReadOnly}), unix.ENAMETOOLONG}, // no NUL
		"bytes":           {sysinfo(Argument{Kind: Bytes, Size: 112}), 0},
		"bytes, edge":     {sysinfo(Argument{Kind: Edge, Size: 112}), unix.EFAULT},
		"bytes, whole":    {sysinfo(Argument{Kind: Edge, Size: 223}), 0}, // half of them
		"bytes read-only": {sysinfo(Argument{Kind: ReadOnly}), unix.EFAULT},
	} {
		t.Run(name, func(t *testing.T) {
			if got := call(t, c.Calls, test.call); got.Errno != test.want || got.Ended != "" {
				t.Errorf("%v: got %+v, want %v", test.call, got, test.want)
			}
		})
	}
	results, err := c.Threads(sysinfo(Argument{Kind: Bytes, Size: 112}), 100)
	if err != nil || len(results) != 100 {
		t.Errorf("%d results, %v", len(results), err)
	}
}

// TestBounded looks at what the kernel says that the container may have.
func TestBounded(t *testing.T) {
	c, _ := start(t, nil)
	call(t, c.Calls, Call{Number: unix.SYS_GETPID})
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", c.container.InitPID()))
	if err != nil {
		t.Fatal(err)
	}
	if want := regexp.MustCompile(`(?m)^Max processes +512 +512 `); !want.Match(limits) {
		t.Errorf("limits %s", limits)
	}
	// It is raised no more, not even by root of a nested user namespace.
	raise := Call{Number: unix.SYS_PRLIMIT64, Args: [6]Argument{number(0), number(unix.RLIMIT_NPROC), {Kind: Bytes, Size: 16}}}
	for _, made := range []func(...Call) ([]Result, error){c.Calls, c.Nested} {
		if got := call(t, made, raise); got.Errno != unix.EPERM {
			t.Errorf("raised: %+v", got)
		}
	}
}

// TestCompat makes calls of i386, with a pointer and with all six registers.
func TestCompat(t *testing.T) {
	c, _ := start(t, nil)
	if runtime.GOARCH != "amd64" {
		if c.CheckCompat() == nil {
			t.Error("there are 32-bit callers")
		}
		return
	}
	if err := c.CheckCompat(); err != nil {
		t.Fatal(err)
	}
	const access, syncFileRange = 33, 314
	last := func(fd, flags uint64) Call { // of a device
		return Call{Number: syncFileRange, Args: [6]Argument{number(fd), number(0), number(0), number(1), number(0), number(flags)}}
	}
	for name, test := range map[string]struct {
		call Call
		want syscall.Errno
	}{
		"text":  {Call{Number: access, Args: [6]Argument{{Kind: Text, Text: "/"}}}, 0},
		"edge":  {Call{Number: access, Args: [6]Argument{{Kind: Edge, Text: "/"}}}, unix.EFAULT},
		"fd":    {last(1<<32-1, 0), unix.EBADF},
		"flags": {last(0, 0), unix.ESPIPE},
		"bad":   {last(0, 0xff), unix.EINVAL}, // in the sixth register
	} {
		t.Run(name, func(t *testing.T) {
			test.call.Compat = true
			if got := call(t, c.Calls, test.call); got.Errno != test.want || got.Ended != "" {
				t.Errorf("got %+v, want %v", got, test.want)
			}
		})
	}
}

// TestNested has the container's root, and that of a user namespace in the container, set the hostname.
func TestNested(t *testing.T) {
	c, _ := start(t, nil)
	set := Call{Number: unix.SYS_SETHOSTNAME, Args: [6]Argument{{Kind: Text, Text: "x"}, number(1)}}
	if got := call(t, c.Calls, set); got.Errno != 0 {
		t.Errorf("root: %+v", got)
	}
	if got := call(t, c.Nested, set); got.Errno != unix.EPERM {
		t.Errorf("nested root: %+v", got)
	}
}

// TestHeld has a child make its call when it is told to.
func TestHeld(t *testing.T) {
	c, _ := start(t, nil)
	if err := c.Prepare(Call{Number: unix.SYS_GETPID}); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Release(); err != nil || got.Value <= 1 || got.Ended != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestEnds has calls that end their caller, or hold it up, among others.
func TestEnds(t *testing.T) {
	c, _ := start(t, nil)
	c.limit = 10 * time.Second
	getpid, exit := Call{Number: unix.SYS_GETPID}, Call{Number: unix.SYS_EXIT_GROUP, Args: [6]Argument{number(3)}}
	calls := []Call{getpid, exit, getpid, {Number: unix.SYS_PPOLL}, getpid, {Number: unix.SYS_CLOSE, Args: [6]Argument{number(childPipe)}}}
	for range perChild {
		calls = append(calls, getpid)
	}
	results, err := c.Calls(calls...)
	if err != nil || len(results) != len(calls) {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, ended := range map[int]string{
		0: "", 1: "the caller ended: exit status 3", 2: "", 3: "no result within 10s", 4: "", 5: "the caller ended: exit status 1", 6: "",
		len(calls) - 1: "",
	} {
		if got := results[i]; got.Ended != ended || ended == "" && got.Value <= 1 {
			t.Errorf("%d: %+v, want %q", i, got, ended)
		}
	}
}

// TestParked has nobody answer, so that children wait in their calls until they are killed.
func TestParked(t *testing.T) {
	filter, err := cbpf.Notify(unix.SYS_GETPGID)
	if err != nil {
		t.Fatal(err)
	}
	c, listener := start(t, filter)
	getpgid := Call{Name: "getpgid", Number: unix.SYS_GETPGID}
	if err := errors.Join(c.Prepare(getpgid), c.Park(getpgid)); err != nil {
		t.Fatal(err)
	}
	var n notify.Notification
	if err := notify.FD(listener.Fd()).Receive(&n); err != nil || n.NR != unix.SYS_GETPGID {
		t.Errorf("notification %+v, %v", n, err)
	}
	if err := c.Unpark(); err != nil {
		t.Error(err)
	}
	if notify.FD(listener.Fd()).Valid(n.ID) {
		t.Error("the caller lives")
	}
	if err := c.Kill(getpgid, []time.Duration{0, time.Millisecond}); err != nil {
		t.Error(err)
	}
}

func TestStrings(t *testing.T) {
	call := Call{Name: "mknod", Args: [6]Argument{{Kind: Text, Text: "n"}, number(0o20666), {Kind: Null}}}
	if got, want := fmt.Sprint(call), `mknod("n", 0x21b6, NULL)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
