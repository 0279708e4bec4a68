package broker

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

// hangingPage starts and attaches a container, one of whose threads hangs in a read of a page. It returns the page's
// address.
func (b *bench) hangingPage(t *testing.T, file *testcaller.HangingFile) (*testcaller.Caller, uint64) {
	t.Helper()
	c := testcaller.Start(t, 0, file.File)
	t.Cleanup(file.Answer) // a thread that hangs cannot be killed
	b.attachCaller(t, c, "hanging")
	page := c.MapFile(t, 0)
	hangIn(c, page)
	<-file.Asked
	return c, page
}

// hangIn has a thread of the container read the page in a call that is not notified, and that all architectures have.
func hangIn(c *testcaller.Caller, page uint64) {
	here := unix.AT_FDCWD
	c.Go(unix.SYS_FACCESSAT, uint64(here), page, 0)
}

// TestReadHangs has a container whose memory is a page that never comes: who reads it hangs in the kernel. Its calls
// are answered at their deadlines, and from the third on at once; those without a pointer are served, and so is
// another container all the while.
func TestReadHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	file := testcaller.NewHangingFile(t)
	c, page := b.hangingPage(t, file)
	other := b.attach(t)
	awaiting := func(call <-chan testcaller.Result) testcaller.Result { return b.await(t, call, other) }
	for range maxHangs {
		want(t, awaiting(c.Go(unix.SYS_CHDIR, page)), 0, syscall.EIO)
	}
	b.log.await(t, 1, `"level":"warn"`, "quarantined", `"container":"hanging"`)
	status := func() ContainerStatus { return b.Status()[0] }
	if q := status().Quarantines; len(q) != 1 || q[0].Reason != hangReason(maxHangs) || q[0].Since.IsZero() {
		t.Errorf("quarantines %+v", q)
	}
	for range 20 {
		want(t, awaiting(c.Go(unix.SYS_CHDIR, page)), 0, syscall.EIO)
		want(t, awaiting(begin(c, testplugin.Return, 5)), 5, 0)
	}
	want(t, awaiting(begin(c, testplugin.Read, page)), 0, syscall.EIO)
	want(t, awaiting(begin(c, testplugin.Write, page, 1)), 0, syscall.EIO)
	eventually(t, "no more threads are held up", func() bool { return status().Inflight == maxHangs })
	if n := b.log.count(fmt.Sprintf("no answer within %v", shortDeadline), "hangs in the kernel"); n != maxHangs {
		t.Errorf("the log has %d calls that hung", n)
	}

	file.Answer()
	b.log.await(t, 1, "the quarantine is over", `"container":"hanging"`)
	eventually(t, "nothing hangs", func() bool { return status().Inflight == 0 && status().Quarantines == nil })
	want(t, c.Call(t, unix.SYS_CHDIR, page), 0, unix.ENOENT) // of the plugin, which finds the path empty
	if n := b.log.count(`"quarantined: `); n != 1 {
		t.Errorf("the log has %d quarantines", n)
	}
	b.checkCrew(t, 2)
}

// TestWriteHangs has a container that holds up who writes to its memory.
func TestWriteHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	c, page := b.hangingPage(t, testcaller.NewHangingFile(t))
	want(t, ask(t, c, testplugin.Write, page, 1), 0, syscall.EIO)
	want(t, ask(t, c, testplugin.Return, 5), 5, 0)
}

// TestCloseWhileReadsHang closes the broker, which does not wait for threads that hang, given up or not.
func TestCloseWhileReadsHang(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]time.Duration{"given up": time.Second, "before the deadline": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: deadline})
			file := testcaller.NewHangingFile(t)
			c, page := b.hangingPage(t, file)
			if deadline == time.Second {
				want(t, c.Call(t, unix.SYS_CHDIR, page), 0, syscall.EIO)
			}
			hanging := b.Status()[0].Calls + 1
			call := c.Go(unix.SYS_CHDIR, page)
			eventually(t, "a thread hangs", func() bool { return b.Status()[0].Calls == hanging })
			b.close()
			want(t, testcaller.Await(t, call), 0, syscall.EIO)
			want(t, c.Call(t, unix.SYS_CHDIR, page), 0, unix.ENOSYS)
		})
	}
}

// TestRelayReadHangs has a container whose notifications another program hands on.
func TestRelayReadHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	file := testcaller.NewHangingFile(t)
	r := startRelayed(t, file.File)
	t.Cleanup(file.Answer)
	page := r.MapFile(t, 0)
	hangIn(r.Caller, page)
	<-file.Asked
	call := r.Go(unix.SYS_GETPPID, op(testplugin.Read, page)...)
	x := r.receive(t)
	served := on(func() {
		if err := b.serve(t, r, x); err != nil {
			t.Error(err)
		}
	})
	want(t, testcaller.Await(t, call), 0, syscall.EIO)
	select {
	case <-served:
		t.Error("the connection goes on before its thread is back")
	default:
	}
	file.Answer()
	<-served
	call = r.Go(unix.SYS_GETPPID, op(testplugin.Return, 77)...)
	if err := b.serve(t, r, r.receive(t)); err != nil {
		t.Error(err)
	}
	want(t, testcaller.Await(t, call), 77, 0)
}

// attachExecuting attaches a container of one process, whose first thread makes a call that the plugin holds, and has
// another thread execute a program, which hangs.
func (b *bench) attachExecuting(t *testing.T) (*attachment, *held) {
	t.Helper()
	file := testcaller.NewHangingFile(t)
	c := testcaller.Start(t, 0, file.File)
	t.Cleanup(file.Answer) // what hangs cannot be killed
	b.attachCaller(t, c, "executing")
	file.HangCloses(c.PID)
	c.GoFirst(unix.SYS_GETPPID, op(testplugin.Hold, 7)...)
	h := b.gate.next(t)
	c.ExecClosing(t, 0)
	<-file.Asked
	return b.attachmentsOf(func(id string) bool { return id == "executing" })[0], h
}

// executing is a listener whose caller is killed just before it gets its answer.
type executing struct {
	notify.FD
	execute func()
}

func (e executing) SendValueDoubting(id uint64, value int64) (bool, error) {
	e.execute()
	return e.FD.SendValueDoubting(id, value)
}

// requireHangingLooks skips the test if the kernel does not let those hang who look at a process that executes a program
// and hangs. Debian's 6.12 and 7.3 do not.
func requireHangingLooks(t *testing.T, pid int) {
	t.Helper()
	looker, looked := make(chan int), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		looker <- unix.Gettid()
		os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		close(looked)
	}()
	thread := fmt.Sprintf("/proc/self/task/%d/stat", <-looker)
	eventually(t, "somebody looks at the process or hangs", func() bool {
		select {
		case <-looked:
			require.KernelLacks(t, "this kernel lets processes be looked at while they execute a program")
		default:
		}
		text, err := os.ReadFile(thread)
		if err != nil {
			t.Fatal(err)
		}
		_, state, _ := strings.Cut(string(text), ") ")
		return strings.HasPrefix(state, "D")
	})
}

// TestExecHangs has a caller be killed as another thread of its process executes a program, which hangs in its place:
// so does who looks at the process, to see whether the answer is worth keeping. The call is over all the same, and
// others are watched.
func TestExecHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	watched, page := b.hangingPage(t, testcaller.NewHangingFile(t))
	file := testcaller.NewHangingFile(t)
	r := startRelayed(t, file.File)
	t.Cleanup(file.Answer) // what hangs cannot be killed
	file.HangCloses(r.PID)
	r.GoFirst(unix.SYS_GETPPID, op(testplugin.Return, 7)...)
	x := r.receive(t)
	// Not before: while a plugin has the call its thread looks at the caller too, every 100 ms.
	x.Answers = executing{r.FD, func() {
		r.ExecClosing(t, 0)
		<-file.Asked
	}}
	if err := b.serve(t, r, x); err != nil {
		t.Error(err)
	}
	a := b.attachmentsOf(func(id string) bool { return id != "hanging" })[0]
	requireHangingLooks(t, r.PID)
	eventually(t, "its answer is looked after", func() bool {
		a.again.mu.Lock()
		defer a.again.mu.Unlock()
		return a.again.looking
	})
	want(t, watched.Call(t, unix.SYS_CHDIR, page), 0, syscall.EIO)
	b.close()
}

// TestWatchHangs has the first process of a container hang when the broker begins to watch it: that holds up nobody.
func TestWatchHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	a, h := b.attachExecuting(t)
	h.open()
	go b.watch(a)
	eventually(t, "it is about to be watched", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return a.watched
	})
	want(t, ask(t, b.attach(t), testplugin.Return, 5), 5, 0)
	b.close()
}

// TestLocateHangs has a caller be killed as another thread of its process executes a program, which hangs in its place:
// so does who looks at the caller's user namespace. The connection's thread is given up at the deadline, and the broker
// closes without it.
func TestLocateHangs(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	file := testcaller.NewHangingFile(t)
	r := startRelayed(t, file.File)
	t.Cleanup(file.Answer) // what hangs cannot be killed
	file.HangCloses(r.PID)
	attached, handed := make(chan struct{}), make(chan RelayedNotification, 1)
	served := on(func() {
		relay, err := b.Relay(t.Context(), r.claim(), b.NewInbox())
		close(attached) // and its first process has been looked at
		if err != nil {
			t.Error(err)
			return
		}
		defer relay.Close()
		relay.Handle(<-handed)
	})
	r.GoFirst(unix.SYS_GETPPID, op(testplugin.Return, 77)...)
	x := r.receive(t)
	<-attached
	r.ExecClosing(t, 0)
	<-file.Asked
	handed <- x
	requireHangingLooks(t, r.PID)
	b.log.await(t, 1, fmt.Sprintf("no answer within %v", shortDeadline), "hangs in the kernel")
	b.close()
	file.Answer()
	<-served
}

// TestListHangs has a process of another container hang while a container's threads are listed, as for setpriority(2)
// of a user: nothing is read of what is not the container's.
func TestListHangs(t *testing.T) {
	t.Parallel()
	require.Kernel(t, "6.11", "NS_GET_PID_IN_PIDNS")
	b := newBench(t, options{})
	_, h := b.attachExecuting(t)
	h.open()
	c := testcaller.Start(t, 0)
	var set capture.Set
	defer set.Close()
	over := make(chan struct{})
	go func() {
		set.Asked(c.PID, []*capture.Want{{Part: capture.PartUserThreads}})
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(testcaller.Timeout):
		t.Fatal("the list is not there")
	}
	if set.Errno != 0 || len(set.Handles) != 1 || set.Handles[0].Errno != 0 {
		t.Errorf("%+v", set)
	}
}
