package keep

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// Variables of the processes of a test.
const (
	dirVariable    = "INTERCEDE_TEST_DIR"    // where they meet
	brokerVariable = "INTERCEDE_TEST_BROKER" // what the broker does
	answerVariable = "INTERCEDE_TEST_ANSWER" // a time: AnswerAfter
	watchVariable  = "INTERCEDE_TEST_WATCH"  // a time: Watchdog
)

func init() {
	roles["keeper"] = keep
	roles["broker"] = func() {
		if err := broker(); err != nil {
			fmt.Fprintln(os.Stderr, "test broker:", err)
			os.Exit(1)
		}
	}
}

// keep is a keeper of a test's broker.
func keep() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	after, _ := time.ParseDuration(os.Getenv(answerVariable))
	watchdog, _ := time.ParseDuration(os.Getenv(watchVariable))
	status, err := Run(Options{
		Command: []string{"env", roleVariable + "=broker", self}, AnswerAfter: after, Watchdog: watchdog,
		Fallback: testPath("fallback"), Journal: testPath("journal"), Log: testLog(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "keep:", err)
	}
	os.Exit(status)
}

// broker is a small one: it takes a listener at a socket, and has calls return its own process ID. Its journal is the
// notification that it received last.
func broker() error {
	inherited, err := Inherited()
	if err != nil {
		return err
	}
	store, err := Open(inherited...)
	if err != nil {
		return err
	}
	switch os.Getenv(brokerVariable) {
	case "fails":
		if len(inherited) > 0 {
			return fmt.Errorf("started with %d descriptors, and it does not work", len(inherited))
		}
	case "hangs", "dies":
		if len(inherited) > 0 {
			select {}
		}
	}
	all, err := store.TakeOver(context.Background(), inherited)
	if err != nil {
		return err
	}
	b := &testBroker{store: store}
	calls, left, err := journal.Open(testPath("journal"), 4)
	if err != nil {
		return err
	}
	b.slot = calls.Take()
	for _, d := range all {
		if d.Name == testListener {
			b.listener = notify.FD(d.File.Fd())
		}
	}
	if b.listener == 0 {
		if err := b.begin(); err != nil {
			return err
		}
	}
	for _, call := range left {
		b.listener.SendValue(call.Packet.Notification.ID, int64(os.Getpid()))
		calls.Give(call)
	}
	return b.serve()
}

func testPath(name string) string { return filepath.Join(os.Getenv(dirVariable), name) }

// testListener is the name of the listener: its calls come from source 2.
const testListener = "listener.1.2"

type testBroker struct {
	store    *Store
	slot     *journal.Slot
	listener notify.FD
}

// begin takes the first listener.
func (b *testBroker) begin() error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: testPath("runtime")}); err != nil {
		return err
	}
	if err := b.store.Notify(Ready); err != nil {
		return err
	}
	_, fds, err := linux.Receive(socket, make([]byte, 1), 1)
	if err != nil {
		return err
	}
	b.listener = notify.FD(fds[0])
	if err := b.store.Put(testListener, fds[0]); err != nil {
		return err
	}
	return b.store.Barrier(context.Background())
}

func (b *testBroker) serve() error {
	if err := b.store.Notify(Ready); err != nil {
		return err
	}
	if interval := WatchdogInterval(); interval > 0 {
		go func() {
			for range time.Tick(interval / 4) {
				b.store.Notify(Watchdog)
			}
		}()
	}
	for {
		pending, hangup, err := b.listener.Poll(-1)
		switch {
		case err != nil:
			return err
		case pending:
			b.slot.Expect(2)
			n := &b.slot.Packet.Notification
			if b.listener.Receive(n) == nil {
				if os.Getenv(brokerVariable) == "dies" {
					unix.Kill(os.Getpid(), unix.SIGKILL)
				}
				b.listener.SendValue(n.ID, int64(os.Getpid()))
			}
			b.slot.Clear()
		case hangup:
			return b.store.Remove(testListener)
		}
	}
}

// house is a keeper with its broker, in processes of their own.
type house struct {
	dir    string
	cmd    *exec.Cmd
	caller *testcaller.Caller
	ended  chan error
}

// printed is what the processes have logged. It is a file, since a process that is left behind keeps it open.
func (h *house) printed(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// newHouse starts a keeper, and a container whose listener its broker gets. Its calls of getppid are notified.
func newHouse(t *testing.T, env ...string) *house {
	t.Helper()
	h := &house{dir: shortDir(t)}
	h.start(t, env...)
	h.caller = testcaller.Start(t, 0)
	listener := h.caller.Listener(t, unix.SYS_GETPPID)
	defer listener.Close()
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	h.eventually(t, "the broker takes a listener", func() bool {
		return unix.Connect(socket, &unix.SockaddrUnix{Name: filepath.Join(h.dir, "runtime")}) == nil
	})
	if err := linux.Send(socket, []byte{0}, int(listener.Fd())); err != nil {
		t.Fatal(err)
	}
	return h
}

// start starts a keeper.
func (h *house) start(t *testing.T, env ...string) {
	t.Helper()
	h.cmd = exec.Command("/proc/self/exe")
	h.cmd.Env = append(append(os.Environ(), roleVariable+"=keeper", dirVariable+"="+h.dir, answerVariable+"=1h"), env...)
	log, err := os.OpenFile(filepath.Join(h.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, ended := h.cmd, make(chan error, 1)
	h.ended = ended
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Process.Signal(unix.SIGTERM)
		time.AfterFunc(testcaller.Timeout, func() { cmd.Process.Kill() })
		<-ended
		ended <- nil
		if t.Failed() {
			t.Log(h.printed(t))
		}
	})
}

func (h *house) eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(testcaller.Timeout)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not come to that", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// call makes a call, which a broker answered if its value is not a parent's process ID.
func (h *house) call(t *testing.T) testcaller.Result {
	t.Helper()
	return h.caller.Call(t, unix.SYS_GETPPID)
}

// broker is the process ID of the broker.
func (h *house) broker(t *testing.T) int {
	t.Helper()
	r := h.call(t)
	if r.Errno != 0 || r.Value <= 0 {
		t.Fatalf("the call returned %+v", r)
	}
	return int(r.Value)
}

// TestKill kills the broker again and again while threads of a container make calls: each is answered by a broker.
func TestKill(t *testing.T) {
	kills := 100
	if testing.Short() {
		kills = 10
	}
	h := newHouse(t)
	var calls, wrong atomic.Int64
	over := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				r := <-h.caller.Go(unix.SYS_GETPPID)
				calls.Add(1)
				if r.Errno != 0 || r.Value <= 0 {
					wrong.Add(1)
					t.Errorf("a call returned %+v", r)
				}
			}
		})
	}
	last := 0
	var longest time.Duration
	for range kills {
		began := time.Now()
		pid := h.broker(t)
		for pid == last { // answered by the one before
			pid = h.broker(t)
		}
		longest = max(longest, time.Since(began))
		last = pid
		unix.Kill(pid, unix.SIGKILL)
	}
	close(over)
	callers.Wait()
	t.Logf("%d kills, %d calls, %d wrong; longest time to the next broker %v", kills, calls.Load(), wrong.Load(), longest)
}

// TestKeeperSignals gives the broker what is the broker's, and ends both.
func TestKeeperSignals(t *testing.T) {
	h := newHouse(t)
	first := h.broker(t)
	h.cmd.Process.Signal(unix.SIGHUP) // ends a program that does not expect it
	h.eventually(t, "another broker", func() bool { return h.broker(t) != first })
	h.cmd.Process.Signal(unix.SIGTERM)
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	h.ended <- nil
	// What it left behind answers, until the next keeper comes.
	if r := h.call(t); r.Errno != 0 || r.Value != 0 { // the container's first process has no parent in it
		t.Errorf("without a keeper: %+v", r)
	}
	h.start(t)
	h.eventually(t, "the next keeper's broker answers", func() bool { return h.broker2(t) })
	h.caller.Kill()
	h.eventually(t, "the dead container's listener is closed", func() bool {
		return descriptorsOf(t, h.cmd.Process.Pid, "seccomp") == 0
	})
	h.cmd.Process.Signal(unix.SIGTERM)
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	h.ended <- nil
	if strings.Count(h.printed(t), "calls of containers go on in the kernel from now on") != 1 {
		t.Error("a fallback is left behind for nobody")
	}
	h.eventually(t, "the fallback ends", func() bool { return dialSeqpacket(filepath.Join(h.dir, "fallback")) != nil })
}

func (h *house) broker2(t *testing.T) bool {
	r := h.call(t)
	if r.Errno != 0 {
		t.Fatalf("the call returned %+v", r)
	}
	return r.Value > 0
}

func dialSeqpacket(path string) error {
	c, err := dialFallback(path)
	if err == nil {
		c.close()
	}
	return err
}

// TestNoBroker has a broker that cannot start again: the keeper answers.
func TestNoBroker(t *testing.T) {
	for _, kind := range []string{"fails", "hangs"} {
		t.Run(kind, func(t *testing.T) {
			h := newHouse(t, brokerVariable+"="+kind, answerVariable+"=300ms")
			unix.Kill(h.broker(t), unix.SIGKILL)
			for range 100 {
				if r := h.call(t); r.Errno != 0 {
					t.Fatalf("the call returned %+v", r)
				}
			}
			if r := h.call(t); r.Value != 0 {
				t.Errorf("the call returned %+v", r)
			}
			before := descriptorsOf(t, h.cmd.Process.Pid, "seccomp")
			h.caller.Kill()
			h.eventually(t, "the dead container's listener is closed", func() bool {
				return descriptorsOf(t, h.cmd.Process.Pid, "seccomp") < before
			})
		})
	}
}

// TestReceivedCall has a broker die that has received a call: the kernel delivers it to nobody else, and the keeper
// answers it.
func TestReceivedCall(t *testing.T) {
	h := newHouse(t, brokerVariable+"=dies", answerVariable+"=10ms")
	for range 20 {
		if r := h.call(t); r.Errno != 0 || r.Value != 0 {
			t.Fatalf("the call returned %+v", r)
		}
	}
}

// descriptorsOf counts the descriptors of a process that are of this kind.
func descriptorsOf(t *testing.T, pid int, kind string) (n int) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, _ := os.Readlink(link); strings.Contains(target, kind) {
			n++
		}
	}
	return n
}

// TestWatchdog ends a broker that gives no sign of life.
func TestWatchdog(t *testing.T) {
	const watchdog = 5 * time.Second // within which a slow machine lets the broker give a sign
	h := newHouse(t, watchVariable+"="+watchdog.String())
	first := h.broker(t)
	time.Sleep(watchdog + watchdog/4)
	if pid := h.broker(t); pid != first {
		t.Errorf("the broker was ended although it gave signs: %d, then %d", first, pid)
	}
	unix.Kill(first, unix.SIGSTOP)
	h.eventually(t, "another broker", func() bool { return h.broker(t) != first })
	if !strings.Contains(h.printed(t), "gives no sign of life") {
		t.Error("it is not logged")
	}
}

// TestUpgrade has the keeper execute its program anew while calls come.
func TestUpgrade(t *testing.T) {
	h := newHouse(t)
	pid := h.broker(t)
	began := startTime(t, h.cmd.Process.Pid)
	for i := range 5 {
		h.cmd.Process.Signal(unix.SIGUSR2)
		h.eventually(t, "the keeper has executed its program", func() bool {
			return strings.Count(h.printed(t), "executed its program anew") == i+1
		})
		if got := h.broker(t); got != pid {
			t.Fatalf("upgrade %d: the broker is %d, was %d", i, got, pid)
		}
	}
	if startTime(t, h.cmd.Process.Pid) != began {
		t.Error("it is another process")
	}
	unix.Kill(pid, unix.SIGKILL)
	h.eventually(t, "another broker", func() bool { return h.broker(t) != pid })
	if n := descriptorsOf(t, h.cmd.Process.Pid, "memfd"); n != 0 {
		t.Errorf("the keeper has %d memfds", n)
	}
	h.cmd.Process.Signal(unix.SIGTERM)
	if err := <-h.ended; err != nil {
		t.Error(err)
	}
	h.ended <- nil
	if r := h.call(t); r.Errno != 0 || r.Value != 0 {
		t.Errorf("without a keeper: %+v", r)
	}
}

// startTime is the field of /proc/PID/stat.
func startTime(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)[19]
}
