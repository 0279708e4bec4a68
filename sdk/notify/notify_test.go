package notify_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/intercede/intercede/internal/cbpf"
	raw "github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/require"
	"github.com/intercede/intercede/sdk/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// caller is a thread of this process that has the filter.
type caller struct {
	tid     int
	calls   chan uintptr // the first argument of each call
	results chan string
}

// start makes a caller and the agent's end of its listener.
func start(t *testing.T) (*caller, *notify.Listener) {
	t.Helper()
	require.Root(t)
	program, err := cbpf.Notify(unix.SYS_GETPPID)
	if err != nil {
		t.Fatal(err)
	}
	c := &caller{calls: make(chan uintptr), results: make(chan string, 1)}
	loaded := make(chan raw.FD)
	target.GoOnThread(func() { // the thread takes its filter along when it ends
		c.tid = unix.Gettid()
		fd, err := raw.Load(program, 0)
		if err != nil {
			t.Error(err)
		}
		loaded <- fd
		for argument := range c.calls {
			value, _, errno := unix.Syscall(unix.SYS_GETPPID, argument, 0, 0)
			c.results <- fmt.Sprintf("%d %v", int(value), errno)
		}
	})
	l, err := notify.NewListener(os.NewFile(uintptr(<-loaded), "listener"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return c, l
}

// park makes a call and receives its notification.
func (c *caller) park(t *testing.T, l *notify.Listener, argument uintptr) *notify.Notification {
	t.Helper()
	c.calls <- argument
	n, err := l.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAnswers(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	c, l := start(t)
	for name, test := range map[string]struct {
		answer func(*notify.Notification) error
		want   string
	}{
		"value":    {func(n *notify.Notification) error { return n.Return(7) }, "7 errno 0"},
		"errno":    {func(n *notify.Notification) error { return n.Errno(unix.EXDEV) }, "-1 invalid cross-device link"},
		"continue": {(*notify.Notification).Continue, fmt.Sprintf("%d errno 0", os.Getppid())},
	} {
		t.Run(name, func(t *testing.T) {
			n := c.park(t, l, 5)
			if n.TID != c.tid || n.Number != unix.SYS_GETPPID || n.Args[0] != 5 {
				t.Errorf("notification %+v", n)
			}
			for _, bad := range []syscall.Errno{0, 4096} {
				if n.Errno(bad) == nil {
					t.Errorf("errno %d is taken", int(bad))
				}
			}
			if err := n.Valid(); err != nil {
				t.Errorf("before the answer: %v", err)
			}
			if err := test.answer(n); err != nil {
				t.Error(err)
			}
			if got := <-c.results; got != test.want {
				t.Errorf("the caller gets %q, want %q", got, test.want)
			}
			for _, err := range []error{n.Valid(), test.answer(n)} {
				if !errors.Is(err, notify.ErrGone) {
					t.Errorf("after the answer: %v", err)
				}
			}
		})
	}
	t.Run("descriptor", func(t *testing.T) {
		n := c.park(t, l, 0)
		number, err := n.AddFD(null, true)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(number)
		if got := <-c.results; got != fmt.Sprintf("%d errno 0", number) {
			t.Errorf("the caller gets %q, want %d", got, number)
		}
	})
}

// TestTarget reads the memory of a caller: what it read counts only while the caller waits.
func TestTarget(t *testing.T) {
	c, l := start(t)
	text := []byte("of the caller\x00")
	n := c.park(t, l, uintptr(unsafe.Pointer(&text[0])))
	target, err := n.Target()
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	got, err := target.ReadString(n.Args[0], 64)
	if got != "of the caller" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := target.ReadString(n.Args[0], 4); !errors.Is(err, unix.ENAMETOOLONG) {
		t.Errorf("a string that is too long: %v", err)
	}
	buf := make([]byte, 3)
	if err := target.ReadMemory(n.Args[0]+3, buf); string(buf) != "the" || err != nil {
		t.Errorf("got %q, %v", buf, err)
	}
	if err := target.ReadMemory(1, buf); !errors.Is(err, unix.EFAULT) {
		t.Errorf("of a bad address: %v", err)
	}
	if err := n.Return(0); err != nil {
		t.Fatal(err)
	}
	<-c.results
	if err := target.ReadMemory(n.Args[0], buf); !errors.Is(err, notify.ErrGone) {
		t.Errorf("of a caller that goes on: %v", err)
	}
	if _, err := n.Target(); !errors.Is(err, notify.ErrGone) {
		t.Errorf("a target of a caller that goes on: %v", err)
	}
	runtime.KeepAlive(text)
}

func TestEnd(t *testing.T) {
	c, l := start(t)
	n := c.park(t, l, 0)
	received := make(chan error)
	go func() {
		_, err := l.Receive()
		received <- err
	}()
	l.Close()
	if err := <-received; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive, while it is closed: %v", err)
	}
	if got := <-c.results; !strings.HasPrefix(got, "-1 ") || !strings.Contains(got, "not implemented") {
		t.Errorf("the caller that nobody answers gets %q", got)
	}
	l.Close()
	if _, err := l.Receive(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Receive after it: %v", err)
	}
	for name, err := range map[string]error{"Valid": n.Valid(), "Return": n.Return(0), "Continue": n.Continue()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s after it: %v", name, err)
		}
	}
}

// TestLastCallerGone ends the one thread that has the filter.
func TestLastCallerGone(t *testing.T) {
	c, l := start(t)
	close(c.calls)
	if _, err := l.Receive(); err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestNoListener(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := notify.NewListener(null); err == nil || !strings.Contains(err.Error(), "want a seccomp listener") {
		t.Errorf("got %v", err)
	}
	if _, err := null.Stat(); err != nil {
		t.Errorf("the file is closed: %v", err)
	}
}

// An agent that makes every call fail, but for those whose caller is root in the initial user namespace.
func ExampleListener() {
	file := os.NewFile(3, "listener") // from whoever loaded the filter
	listener, err := notify.NewListener(file)
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	for {
		n, err := listener.Receive()
		if err == io.EOF {
			return // the last filtered task is gone
		}
		if err != nil {
			panic(err)
		}
		go answer(n)
	}
}

func answer(n *notify.Notification) {
	caller, err := n.Target()
	if err != nil {
		n.Errno(unix.EPERM) // without effect for a caller that is gone
		return
	}
	defer caller.Close()
	credentials, err := caller.Credentials()
	if err != nil || credentials.UIDs.Effective != 0 {
		n.Errno(unix.EPERM)
		return
	}
	n.Continue() // the kernel checks the whole call again, with the caller's own credentials
}
