package notify_test

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"
	"unsafe"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

// loadGetppid loads a filter that notifies getppid(2).
func loadGetppid() (notify.FD, error) {
	program, err := cbpf.Notify(unix.SYS_GETPPID)
	if err != nil {
		return -1, err
	}
	return notify.Load(program, 0)
}

// filtered is a thread of this process that has the filter; it ends with the test.
type filtered struct {
	notify.FD
	tid     int
	calls   chan [3]uintptr
	results chan result
}

type result struct {
	value uintptr
	errno unix.Errno
}

// newFiltered starts the thread. The filter is the thread's alone, which takes it along, and the runtime starts no
// threads from a locked one.
func newFiltered(t *testing.T) *filtered {
	t.Helper()
	require.Root(t)
	f := &filtered{calls: make(chan [3]uintptr), results: make(chan result)}
	loaded := make(chan error)
	linux.GoOnThread(func() {
		var err error
		f.tid = unix.Gettid()
		f.FD, err = loadGetppid()
		loaded <- err
		for args := range f.calls {
			value, _, errno := unix.Syscall(unix.SYS_GETPPID, args[0], args[1], args[2])
			f.results <- result{value, errno}
		}
	})
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(f.calls)
		unix.Close(int(f.FD))
	})
	return f
}

// park has the thread make a call, and receives its notification. A signal of the Go runtime may take the thread out of
// the call before that, which it then makes again.
func (f *filtered) park(t *testing.T, args ...uintptr) *notify.Notification {
	t.Helper()
	var three [3]uintptr
	copy(three[:], args)
	f.calls <- three
	for {
		if pending, hangup, err := f.Poll(-1); !pending || hangup || err != nil {
			t.Fatalf("poll: %v, %v, %v", pending, hangup, err)
		}
		var n notify.Notification
		err := f.Receive(&n)
		if err == nil {
			return &n
		}
		if !errors.Is(err, notify.ErrGone) {
			t.Fatal(err)
		}
	}
}

func TestSizes(t *testing.T) {
	var sizes struct{ notification, response, data uint16 }
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes))); errno != 0 {
		t.Fatal(errno)
	}
	if size := unsafe.Sizeof(notify.Notification{}); size != 80 || uint16(size) != sizes.notification {
		t.Errorf("a Notification has %d bytes, the kernel's %d", size, sizes.notification)
	}
}

func TestReceive(t *testing.T) {
	f := newFiltered(t)
	n := f.park(t, 1, ^uintptr(0), 3)
	defer func() { <-f.results }()
	defer f.SendContinue(n.ID)
	if n.ID == 0 || int(n.TID) != f.tid || n.NR != unix.SYS_GETPPID || n.IP == 0 || n.Flags != 0 {
		t.Errorf("got %+v", n)
	}
	if n.Args[0] != 1 || n.Args[1] != ^uint64(0) || n.Args[2] != 3 {
		t.Errorf("arguments %#x", n.Args)
	}
	wantArch := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if n.Arch != wantArch {
		t.Errorf("arch %#x, want %#x", n.Arch, wantArch)
	}
	if pending, hangup, err := f.Poll(0); pending || hangup || err != nil {
		t.Errorf("poll afterwards: %v, %v, %v", pending, hangup, err)
	}
	if !f.Valid(n.ID) || f.Valid(n.ID+1) {
		t.Errorf("valid: %v, of another id: %v", f.Valid(n.ID), f.Valid(n.ID+1))
	}
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(notify.FD, uint64) error
		want   result
	}{
		"value":    {func(fd notify.FD, id uint64) error { return fd.SendValue(id, 1<<40) }, result{1 << 40, 0}},
		"errno":    {func(fd notify.FD, id uint64) error { return fd.SendErrno(id, unix.EXDEV) }, result{^uintptr(0), unix.EXDEV}},
		"largest":  {func(fd notify.FD, id uint64) error { return fd.SendErrno(id, unix.EHWPOISON) }, result{^uintptr(0), unix.EHWPOISON}},
		"continue": {notify.FD.SendContinue, result{uintptr(os.Getppid()), 0}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiltered(t)
			n := f.park(t)
			if err := test.answer(f.FD, n.ID); err != nil {
				t.Error(err)
			}
			if got := <-f.results; got != test.want {
				t.Errorf("the caller got %+v, want %+v", got, test.want)
			}
			if f.Valid(n.ID) {
				t.Error("it is valid after the answer")
			}
			if err := test.answer(f.FD, n.ID); !errors.Is(err, notify.ErrGone) {
				t.Errorf("a second answer: %v", err)
			}
		})
	}
}

func TestSendFD(t *testing.T) {
	require.Kernel(t, "5.14", "SECCOMP_ADDFD_FLAG_SEND")
	for name, closeOnExec := range map[string]bool{"kept": false, "close on exec": true} {
		t.Run(name, func(t *testing.T) {
			f := newFiltered(t)
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			n := f.park(t)
			number, err := f.SendFD(n.ID, int(write.Fd()), closeOnExec)
			if err != nil {
				t.Fatal(err)
			}
			write.Close()
			got := <-f.results
			if got != (result{uintptr(number), 0}) {
				t.Errorf("the caller got %+v, want %d", got, number)
			}
			flags, err := unix.FcntlInt(got.value, unix.F_GETFD, 0)
			if err != nil || (flags&unix.FD_CLOEXEC != 0) != closeOnExec {
				t.Errorf("flags %#x, %v", flags, err)
			}
			file := os.NewFile(got.value, "added")
			if _, err := file.WriteString("through"); err != nil {
				t.Error(err)
			}
			file.Close()
			if text, err := io.ReadAll(read); string(text) != "through" || err != nil {
				t.Errorf("read %q, %v", text, err)
			}
			if _, err := f.SendFD(n.ID, int(read.Fd()), false); !errors.Is(err, notify.ErrGone) {
				t.Errorf("a second answer: %v", err)
			}
		})
	}
}

// TestSendFDInterrupted has signals come while descriptors are added, as the Go runtime sends them: no call may return
// without its descriptor.
func TestSendFDInterrupted(t *testing.T) {
	f := newFiltered(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := unix.Gettid()
	var sending sync.WaitGroup
	stop := make(chan struct{})
	sending.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				unix.Tgkill(os.Getpid(), tid, unix.SIGURG) // the runtime's own, which it otherwise ignores
			}
		}
	})
	defer sending.Wait()
	defer close(stop)
	for range 2000 {
		n := f.park(t)
		number, err := f.SendFD(n.ID, int(os.Stdin.Fd()), true)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-f.results; number <= 0 || got != (result{uintptr(number), 0}) {
			t.Fatalf("the caller got %+v, want descriptor %d", got, number)
		}
		unix.Close(number)
	}
}

func TestSendFDBadDescriptor(t *testing.T) {
	f := newFiltered(t)
	n := f.park(t)
	if _, err := f.SendFD(n.ID, -1, false); !errors.Is(err, unix.EBADF) || errors.Is(err, notify.ErrGone) {
		t.Errorf("got %v", err)
	}
	if err := f.SendValue(n.ID, 1); err != nil {
		t.Errorf("the caller no longer waits: %v", err)
	}
	<-f.results
}

func TestPollHangup(t *testing.T) {
	require.Root(t)
	loaded := make(chan notify.FD)
	linux.GoOnThread(func() {
		fd, err := loadGetppid()
		if err != nil {
			t.Error(err)
		}
		loaded <- fd
	})
	fd := <-loaded
	if fd < 0 {
		return
	}
	defer unix.Close(int(fd))
	if pending, hangup, err := fd.Poll(-1); pending || !hangup || err != nil {
		t.Errorf("got %v, %v, %v", pending, hangup, err)
	}
}

func TestRequireListener(t *testing.T) {
	f := newFiltered(t)
	if err := f.RequireListener(); err != nil {
		t.Errorf("a listener: %v", err)
	}
	file, err := os.CreateTemp(t.TempDir(), "anon_inode:seccomp notify")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for name, fd := range map[string]int{"a file": int(file.Fd()), "a socket": pair[0], "nothing": -1} {
		if notify.FD(fd).RequireListener() == nil {
			t.Errorf("%s is a listener", name)
		}
	}
}

func TestLoad(t *testing.T) {
	require.Root(t)
	for name, program := range map[string][]unix.SockFilter{
		"empty": nil, "too long": make([]unix.SockFilter, 1<<16+1), "no BPF": {{Code: 0xffff}},
	} {
		done := make(chan error)
		linux.GoOnThread(func() { // a filter that is loaded after all goes with the thread
			_, err := notify.Load(program, 0)
			done <- err
		})
		if err := <-done; err == nil {
			t.Errorf("%s: it is loaded", name)
		}
	}
	twice := make(chan error)
	linux.GoOnThread(func() {
		first, err := loadGetppid()
		if err == nil {
			defer unix.Close(int(first))
			_, err = loadGetppid()
		}
		twice <- err
	})
	if err := <-twice; !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second listener: %v", err)
	}
}

// TestLoadClosesOnExec checks that a program does not inherit the listener of its own filter.
func TestLoadClosesOnExec(t *testing.T) {
	f := newFiltered(t)
	if flags, err := unix.FcntlInt(uintptr(f.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

// TestFind finds the listener that knows a notification among those of a process: this one, which has two.
func TestFind(t *testing.T) {
	newFiltered(t)
	f := newFiltered(t)
	n := f.park(t)
	found, err := notify.Find(os.Getpid(), n.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(int(found))
	if err := found.SendValue(n.ID, 7); err != nil {
		t.Fatal(err)
	}
	if got := <-f.results; got.value != 7 {
		t.Errorf("the caller got %+v, want 7", got)
	}
	if _, err := notify.Find(os.Getpid(), n.ID); !errors.Is(err, notify.ErrGone) {
		t.Errorf("of an answered notification: %v, want ErrGone", err)
	}
}
