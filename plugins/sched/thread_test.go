package sched

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// numbered is a step that makes a process or a thread, which gets this id in the container's pid namespace.
func numbered(tid int, step string) []string {
	return []string{fmt.Sprintf("write /proc/sys/kernel/ns_last_pid %d", tid-1), step}
}

func script(parts ...[]string) []string {
	var all []string
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// patience bounds every wait for what must happen soon; only a failing test takes as long.
const patience = time.Minute

// waitCalls waits until n calls of a program were answered: while a program makes a numbered process no other may be
// started.
func waitCalls(t *testing.T, p *sdktest.Process, n int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if len(p.Calls()) >= n {
			return
		}
	}
	t.Fatalf("%d calls were answered, want %d", len(p.Calls()), n)
}

// TestNestedUserNamespace names a thread whose user namespace lies below the container's, and is named from there.
func TestNestedUserNamespace(t *testing.T) {
	c := sdktest.NewContainer(t, plugin)
	c.Call(t, "do mknod s:/tmp/release S_IFIFO|0666 0").Lines(t)
	p := c.Start(t, c.Install(t, sdktest.Caller(t)), script(numbered(5000, "fork"), []string{"unshare user", scheduler(1, "SCHED_FIFO", 5),
		scheduler(0, "SCHED_FIFO", 5), "open /tmp/release O_RDONLY"}, show(0))...)
	waitCalls(t, p, 2)
	lines := c.Call(t, scheduler(5000, "SCHED_FIFO", 7), "sys sched_getscheduler 5000", scheduler(5000, "SCHED_RR", 8),
		"open /tmp/release O_WRONLY").Lines(t)
	if got := sdktest.Errnos(lines); got != "ok ok ok" || lines[1].Ret != unix.SCHED_FIFO {
		t.Errorf("the outer thread gets %s, and policy %d", got, lines[1].Ret)
	}
	lines = p.Wait(t).Lines(t)
	if got := sdktest.Errnos(lines); got != "EPERM EPERM ok ok ok" || lines[2].Ret != unix.SCHED_RR {
		t.Errorf("the nested thread gets %s, and has policy %d", got, lines[2].Ret)
	}
}

// victim is a process of the host that nobody may touch.
type victim struct {
	pid    int
	before state
}

func newVictim(t *testing.T, command ...string) victim {
	t.Helper()
	process := exec.Command(command[0], command[1:]...)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	return victim{process.Process.Pid, stateOf(t, process.Process.Pid)}
}

func stateOf(t *testing.T, tid int) state {
	t.Helper()
	policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(tid), 0, 0)
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
	if errno != 0 || err != nil {
		t.Fatalf("state of thread %d: %v, %v", tid, errno, err)
	}
	return state{policy: uint32(policy), nice: 20 - int32(nice)}
}

func (v victim) check(t *testing.T) {
	t.Helper()
	if now := stateOf(t, v.pid); now != v.before {
		t.Errorf("process %d of the host is now %+v, was %+v", v.pid, now, v.before)
	}
}

// TestSameNumberOnHost names a pid that is a process's on the host as well, while the container has none of it, and one
// of its own.
func TestSameNumberOnHost(t *testing.T) {
	v := newVictim(t, "sleep", "1000")
	c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"min_nice": -20}))
	calls := []string{
		scheduler(v.pid, "SCHED_FIFO", 9), param(v.pid, 10), attr(v.pid, "SCHED_RR", 0, 11),
		fmt.Sprintf("sys setpriority PRIO_PROCESS %d -3", v.pid),
	}
	if got := sdktest.Errnos(c.Call(t, calls...).Lines(t)); got != "ESRCH ESRCH ESRCH ESRCH" {
		t.Errorf("without a thread of that number the caller gets %s", got)
	}
	v.check(t)
	lines := c.Call(t, script(numbered(v.pid, "fork"), []string{"sys gettid"}, calls, show(0))...).Lines(t)
	if got := sdktest.Errnos(lines); got != "ok ok ok ok ok ok ok ok" || lines[0].Ret != int64(v.pid) || lines[5].Ret != unix.SCHED_RR {
		t.Errorf("thread %d of the container gets %s, and has policy %d; want thread %d", lines[0].Ret, got, lines[5].Ret, v.pid)
	}
	v.check(t)
}

// TestSameNumberInOtherContainer has a thread of the same number in two containers.
func TestSameNumberInOtherContainer(t *testing.T) {
	other := sdktest.NewContainer(t, plugin)
	other.Call(t, "do mknod s:/tmp/release S_IFIFO|0666 0").Lines(t)
	p := other.Start(t, other.Install(t, sdktest.Caller(t)), script(numbered(5000, "fork"),
		[]string{param(0, 0), "open /tmp/release O_RDONLY"}, show(5000))...)
	waitCalls(t, p, 1)
	c := sdktest.NewContainer(t, plugin)
	calls := []string{scheduler(5000, "SCHED_FIFO", 9), attr(5000, "SCHED_BATCH", 5, 0)}
	if got := sdktest.Errnos(c.Call(t, calls...).Lines(t)); got != "ESRCH ESRCH" {
		t.Errorf("without a thread of that number the caller gets %s", got)
	}
	if got := sdktest.Errnos(c.Call(t, script(numbered(5000, "fork"), calls)...).Lines(t)); got != "ok ok" {
		t.Errorf("with a thread of that number the caller gets %s", got)
	}
	other.Call(t, "open /tmp/release O_WRONLY").Lines(t)
	if lines := p.Wait(t).Lines(t); lines[1].Ret != unix.SCHED_NORMAL || lines[3].Ret != 20 {
		t.Errorf("the other container's thread has %+v", lines)
	}
}

// TestHostThreadInContainer names a process of the host that is in the container's pid namespace, as an administrator's
// can be: its user namespace is the host's.
func TestHostThreadInContainer(t *testing.T) {
	c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"min_nice": -20}))
	v := newVictim(t, "nsenter", "--target", strconv.Itoa(c.Identity().InitPID), "--pid", "sh", "-c", "exec sleep 1000")
	child := childOf(t, v.pid)
	inside := numberOf(t, child)
	v = victim{child, stateOf(t, child)}
	lines := c.Call(t, scheduler(inside, "SCHED_FIFO", 9), scheduler(inside, "SCHED_BATCH", 0), param(inside, 0),
		attr(inside, "SCHED_IDLE", 0, 0), fmt.Sprintf("sys setpriority PRIO_PROCESS %d 5", inside),
		fmt.Sprintf("sys setpriority PRIO_PROCESS %d -5", inside)).Lines(t)
	if got := sdktest.Errnos(lines); got != "EPERM EPERM EPERM EPERM EPERM EPERM" {
		t.Errorf("the caller gets %s", got)
	}
	v.check(t)
	unix.Kill(child, unix.SIGKILL)
}

// childOf waits for the one child of a process.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			t.Fatal(err)
		}
		if child, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			return child
		}
	}
	t.Fatalf("process %d has no child", pid)
	return 0
}

// numberOf is the pid of a process in its own pid namespace.
func numberOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if ids, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(ids)
			if number, err := strconv.Atoi(fields[len(fields)-1]); err == nil && len(fields) > 1 {
				return number
			}
		}
	}
	t.Fatalf("process %d is in no pid namespace below this one", pid)
	return 0
}

// prober runs a function in the place of the plugin's work.
type prober struct {
	sdk.Handler
	probe func(context.Context, *sdk.Request)
}

func (p prober) Attach(context.Context, sdk.Container, sdk.Settings) (sdk.Session, error) {
	return p, nil
}

func (p prober) Close() error { return nil }

func (p prober) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	p.probe(ctx, req)
	return sdk.Return(0), nil
}

// TestReusedNumber ends a thread that was found, and gives its number on the host to a process of the host, before the
// change is made: the last check must see that.
func TestReusedNumber(t *testing.T) {
	caller := sdktest.Caller(t)
	c := sdktest.NewContainer(t, sdktest.InProcess(prober{Handler: plugin, probe: func(ctx context.Context, req *sdk.Request) {
		if req.Int32(0) == 0 {
			return
		}
		th, err := find(ctx, req, int(req.Int32(0)))
		if err != nil {
			t.Errorf("find: %v", err)
			return
		}
		defer th.close()
		unix.Kill(th.TID(), unix.SIGKILL)
		waitReaped(t, th.TID())
		host := exec.Command(caller, fmt.Sprintf("do 435 struct:8=0,8=0,8=0,8=0,8=17,8=0,8=0,8=0,p=hex:%s,8=1 80", littleEndian(th.TID())),
			"do read 0 buf:1 1")
		stdin, _ := host.StdinPipe()
		if err := host.Start(); err != nil {
			t.Error(err)
			return
		}
		defer func() {
			stdin.Close()
			host.Wait()
		}()
		waitThere(t, th.TID())
		if err := th.Alive(); !isGone(err) {
			t.Errorf("thread %d is taken for another: %v", th.TID(), err)
		}
	}}))
	c.Call(t, "do mknod s:/tmp/never S_IFIFO|0666 0").Lines(t)
	p := c.Start(t, c.Install(t, caller), script(numbered(5000, "fork"), []string{param(0, 0), "open /tmp/never O_RDONLY"})...)
	waitCalls(t, p, 1)
	if got := sdktest.Errnos(c.Call(t, scheduler(5000, "SCHED_FIFO", 9)).Lines(t)); got != "ok" {
		t.Errorf("the caller gets %s", got)
	}
}

func littleEndian(n int) string {
	return fmt.Sprintf("%02x%02x%02x%02x", n&0xff, n>>8&0xff, n>>16&0xff, n>>24&0xff)
}

// waitReaped waits until a number is nobody's.
func waitReaped(t *testing.T, tid int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if unix.Kill(tid, 0) == unix.ESRCH {
			return
		}
	}
	t.Errorf("process %d is still there", tid)
}

func waitThere(t *testing.T, tid int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if unix.Kill(tid, 0) == nil {
			return
		}
	}
	t.Errorf("no process %d came", tid)
}
