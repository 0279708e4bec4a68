package broker

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
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"golang.org/x/sys/unix"
)

// TestSlowCallsDelayNobody holds 64 calls of a container; others of it and of another container pass.
func TestSlowCallsDelayNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	busy, other := b.attach(t), b.attach(t)
	var slow []<-chan testcaller.Result
	var gates []*held
	for i := range 64 {
		slow = append(slow, begin(busy, testplugin.Ignore, uint64(i)))
		gates = append(gates, b.gate.next(t))
	}
	want(t, ask(t, busy, testplugin.Return, 1000), 1000, 0)
	want(t, ask(t, other, testplugin.Return, 1001), 1001, 0)
	for i, call := range slow {
		select {
		case r := <-call:
			t.Errorf("slow call %d has returned %+v", i, r)
		default:
		}
	}
	for _, g := range gates {
		g.open()
	}
	for i, call := range slow {
		want(t, testcaller.Await(t, call), int64(i), 0)
	}
}

// TestDeadline has a handler that ignores its context.
func TestDeadline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		plugin string
		value  int64
		errno  syscall.Errno
	}{
		"continue": {"trial", realPPID, 0},
		"errno":    {"trial_errno", 0, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, options{plugins: []string{test.plugin}, deadline: shortDeadline})
			c := b.attach(t)
			pid := ask(t, c, testplugin.Identify).Value
			late := begin(c, testplugin.Ignore, 1)
			g := b.gate.next(t)
			want(t, testcaller.Await(t, late), test.value, test.errno)
			b.log.await(t, 1, `"level":"warn"`, fmt.Sprintf("no answer within %v", shortDeadline))
			// The handler is still there; the plugin is only slow, and goes on.
			want(t, ask(t, c, testplugin.Identify), pid, 0)
			g.open()
			want(t, ask(t, c, testplugin.Return, 3), 3, 0)
		})
	}
}

// TestDeadlineCancels has a handler that heeds its context.
func TestDeadlineCancels(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	late := begin(b.attach(t), testplugin.Hold, 1)
	g := b.gate.next(t)
	want(t, testcaller.Await(t, late), 0, syscall.EIO)
	if line := g.line(t); line != "context" {
		t.Errorf("the handler says %q", line)
	}
}

// recovered waits until the plugin answers again. A moment passes before the broker knows that its process is gone.
func recovered(t *testing.T, c *testcaller.Caller) (identity testcaller.Result) {
	t.Helper()
	eventually(t, "the plugin answers again", func() bool {
		identity = ask(t, c, testplugin.Identify)
		return identity.Errno == 0
	})
	return identity
}

// TestPluginDies ends the plugin's process in several ways: the calls that it has get the verdict, later ones are
// answered by its next run.
func TestPluginDies(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *bench, *testcaller.Caller) testcaller.Result{
		"exit": func(t *testing.T, _ *bench, c *testcaller.Caller) testcaller.Result {
			return ask(t, c, testplugin.Exit)
		},
		"panic of a goroutine": func(t *testing.T, _ *bench, c *testcaller.Caller) testcaller.Result {
			return ask(t, c, testplugin.CrashLater)
		},
		"SIGKILL": func(t *testing.T, b *bench, c *testcaller.Caller) testcaller.Result {
			call := begin(c, testplugin.Hold)
			b.gate.next(t)
			unix.Kill(b.plugins["trial_errno"].Status().PID, unix.SIGKILL)
			return testcaller.Await(t, call)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, options{plugins: []string{"trial_errno"}})
			c := b.attach(t)
			pid := ask(t, c, testplugin.Identify).Value
			want(t, end(t, b, c), 0, syscall.EIO)
			again := recovered(t, c)
			if again.Value == pid {
				t.Errorf("process %d answers again", pid)
			}
			if s := b.plugins["trial_errno"].Status(); s.Restarts != 1 || s.State != "running" || s.PID != int(again.Value) {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestPluginKilledWithManyCalls parks a hundred calls.
func TestPluginKilledWithManyCalls(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	var calls []<-chan testcaller.Result
	for i := range 100 {
		calls = append(calls, begin(c, testplugin.Ignore, uint64(i)))
	}
	for range calls {
		b.gate.next(t)
	}
	unix.Kill(b.plugins["trial_errno"].Status().PID, unix.SIGKILL)
	for _, call := range calls {
		want(t, testcaller.Await(t, call), 0, syscall.EIO)
	}
	recovered(t, c)
}

// TestPluginHangs stops the plugin's process: from its deadline on it answers nothing, is killed and restarted.
func TestPluginHangs(t *testing.T) {
	t.Parallel()
	// The deadline is over long before the launcher has seen for a second that the process is stopped.
	times := launcher.Times{Health: 2 * time.Second}
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: 300 * time.Millisecond, times: times})
	c := b.attach(t)
	b.stopPlugin(t, "trial_errno")
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
	b.log.await(t, 1, "answered no call and no health check for 2s")
	recovered(t, c)
}

// TestPluginUnreachable has a plugin that lives on without its sockets.
func TestPluginUnreachable(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, times: launcher.Times{Health: time.Second}})
	c := b.attach(t)
	pid := ask(t, c, testplugin.Identify).Value
	ask(t, c, testplugin.CloseServer)
	eventually(t, "the plugin answers again", func() bool {
		r := ask(t, c, testplugin.Identify)
		return r.Errno == 0 && r.Value != pid
	})
}

// TestPluginAnswersCalls has a plugin that answers calls and no health check: it is killed only when it answers no
// calls either.
func TestPluginAnswersCalls(t *testing.T) {
	if os.Getenv("INTERCEDE_TEST_TRANSPORT") == "grpc" {
		return // calls and health checks have one connection
	}
	t.Parallel()
	times := launcher.Times{Health: shortDeadline}
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline, times: times})
	c := b.attach(t)
	pid := recovered(t, c).Value
	ask(t, c, testplugin.CloseServer, 1)
	missed := begin(c, testplugin.Ignore, 1)
	for ; b.log.count("the plugin is slow") == 0; time.Sleep(10 * time.Millisecond) {
		want(t, ask(t, c, testplugin.Identify), pid, 0)
		if t.Failed() {
			t.FailNow()
		}
	}
	want(t, testcaller.Await(t, missed), 0, syscall.EIO)
	want(t, ask(t, c, testplugin.Identify), pid, 0)
	want(t, ask(t, c, testplugin.Ignore, 2), 0, syscall.EIO)
	b.log.await(t, 1, fmt.Sprintf("answered no call and no health check for %v", times.Health))
	if again := recovered(t, c); again.Value == pid {
		t.Errorf("process %d answers again", pid)
	}
}

// TestPluginKeepsDying has a plugin that dies more often in a row than a faulty one would be given: it is started
// again.
func TestPluginKeepsDying(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, times: launcher.Times{MaxPause: time.Millisecond}})
	c := b.attach(t)
	const deaths = 20
	for range deaths {
		recovered(t, c)
		want(t, ask(t, c, testplugin.Exit), 0, syscall.EIO)
	}
	recovered(t, c)
	want(t, ask(t, b.attach(t), testplugin.Return, 1), 1, 0) // a container that comes later
	if n := b.log.count("the plugin does not run", `"plugin":"trial_errno"`); n != deaths {
		t.Errorf("%d lines of the log are about %d deaths", n, deaths)
	}
	if s := b.plugins["trial_errno"].Status(); s.State != launcher.Running || s.Restarts != deaths {
		t.Errorf("status %+v", s)
	}
}

// TestPluginDown has a plugin whose next start is far away: its calls do not wait for that.
func TestPluginDown(t *testing.T) {
	t.Parallel()
	times := launcher.Times{FirstPause: time.Hour, MaxPause: time.Hour}
	b := newBench(t, options{plugins: []string{"trial_errno"}, times: times, deadline: time.Minute})
	c := b.attach(t)
	want(t, ask(t, c, testplugin.Exit), 0, syscall.EIO)
	state := func() launcher.Status { return b.plugins["trial_errno"].Status() }
	eventually(t, "the plugin backs off", func() bool { return state().State == launcher.BackingOff })
	if s := state(); s.NextStart.Before(time.Now()) || s.PID != 0 || !strings.Contains(s.Error, "ended after") {
		t.Errorf("status %+v", s)
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
	want(t, ask(t, b.attach(t), testplugin.Return, 1), 0, syscall.EIO) // a container that comes later
	b.log.await(t, 2, `"outcome":"errno"`, "the plugin is down until")
}

// TestKilledPluginCannotEnd has threads of killed processes hang in the kernel: the next process does not wait for
// them, but for one of many.
func TestKilledPluginCannotEnd(t *testing.T) {
	t.Parallel()
	times := launcher.Times{MaxPause: time.Millisecond, Health: 2 * time.Second}
	b := newBench(t, options{plugins: []string{"trial_errno"}, times: times, deadline: time.Second})
	c := b.attach(t)
	state := func() launcher.Status { return b.plugins["trial_errno"].Status() }
	var pids []int
	var releases []func()
	const most = 4
	for range most {
		pid := int(recovered(t, c).Value)
		if slices.Contains(pids, pid) {
			t.Fatalf("process %d answers again", pid)
		}
		pids = append(pids, pid)
		releases = append(releases, hang(t, pid))
		unix.Kill(pid, unix.SIGKILL)
		want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
		eventually(t, "the process is given up", func() bool { return state().Lingering == len(pids) })
	}
	eventually(t, "the plugin backs off", func() bool { return state().State == launcher.BackingOff && state().NextStart.IsZero() })
	if s := state(); !strings.Contains(s.Error, "4 killed processes cannot end") {
		t.Errorf("status %+v", s)
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
	b.log.await(t, 1, `"outcome":"errno"`, "the plugin is down: ")
	for _, pid := range pids {
		if err := unix.Kill(pid, 0); err != nil {
			t.Errorf("process %d has ended: %v", pid, err)
		}
	}
	releases[0]()
	recovered(t, c)
	for _, release := range releases[1:] {
		release()
	}
	eventually(t, "all have ended", func() bool { return state().Lingering == 0 })
}

// hang has a thread of the process hang when it is killed, with all of the process's descriptors, until the returned
// function is called: it is traced, and stops on its way out. The process is killed at the end of the test.
func hang(t *testing.T, pid int) (release func()) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	tid, err := strconv.Atoi(entries[len(entries)-1].Name())
	if err != nil {
		t.Fatal(err)
	}
	traced, released, over := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		runtime.LockOSThread() // the tracer is a thread
		defer runtime.UnlockOSThread()
		var ws unix.WaitStatus
		wait := func() error {
			_, err := unix.Wait4(tid, &ws, unix.WALL, nil)
			return err
		}
		err := errors.Join(unix.PtraceSeize(tid), unix.PtraceInterrupt(tid), wait(),
			unix.PtraceSetOptions(tid, unix.PTRACE_O_TRACEEXIT), unix.PtraceCont(tid, 0))
		traced <- err
		if err != nil {
			return
		}
		<-released
		wait()
		unix.PtraceDetach(tid)
	}()
	if err := <-traced; err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		unix.Kill(pid, unix.SIGKILL)
		close(released)
		<-over
	})
	t.Cleanup(release)
	return release
}

// TestCallerKilled kills a container while its calls are handled.
func TestCallerKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	begin(c, testplugin.Hold, 1)
	heeding := b.gate.next(t)
	begin(c, testplugin.Ignore, 2)
	ignoring := b.gate.next(t)
	c.Kill()
	if line := heeding.line(t); line != "context" {
		t.Errorf("the handler says %q", line)
	}
	eventually(t, "the container is gone", func() bool { return len(b.Status()) == 0 })
	ignoring.open()
	b.log.await(t, 2, `"outcome":"gone"`)
	if n := b.log.count(`"level":"warn"`); n != 0 {
		t.Errorf("%d warnings", n)
	}
	want(t, ask(t, b.attach(t), testplugin.Return, 1), 1, 0)
}

// TestSessionEndsMeanwhile ends one process of a container of two while its call is handled.
func TestSessionEndsMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := testcaller.Start(t, 1)
	b.attachCaller(t, c, "shared")
	b.attachCaller(t, c.Session[0], "shared")
	if s := b.Status(); len(s) != 1 || s[0].Listeners != 2 || s[0].InitPID != c.PID {
		t.Fatalf("status %+v", s)
	}
	begin(c.Session[0], testplugin.Hold, 1)
	g := b.gate.next(t)
	c.Session[0].End()
	if line := g.line(t); line != "context" {
		t.Errorf("the handler says %q", line)
	}
	eventually(t, "one listener is left", func() bool { return b.Status()[0].Listeners == 1 })
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
}

// TestReattachOutlivesItsCall ends the caller whose call made the restarted plugin attach the container: the others'
// calls are served.
func TestReattachOutlivesItsCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, settings: map[string]string{"attach": "hold"}})
	c := testcaller.Start(t, 1)
	go func() { b.gate.next(t).open() }()
	b.attachCaller(t, c, "shared")
	b.attachCaller(t, c.Session[0], "shared")
	want(t, ask(t, c, testplugin.Exit), 0, syscall.EIO)
	var reattaching *held
	for reattaching == nil {
		begin(c.Session[0], testplugin.Return, 1)
		select {
		case reattaching = <-b.gate.arrived:
		case <-time.After(100 * time.Millisecond): // the broker did not know yet that the plugin was gone
		}
	}
	c.Session[0].End()
	b.log.await(t, 1, `"outcome":"gone"`)
	second := begin(c, testplugin.Return, 2)
	reattaching.open()
	want(t, testcaller.Await(t, second), 2, 0)
	want(t, ask(t, c, testplugin.Return, 3), 3, 0)
}

// TestAttachWhilePluginDies has a plugin that dies while the container is attached: the next run attaches it.
func TestAttachWhilePluginDies(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, settings: map[string]string{"attach": "hold"}})
	go func() {
		b.gate.next(t)
		unix.Kill(b.plugins["trial_errno"].Status().PID, unix.SIGKILL)
		b.gate.next(t).open()
	}()
	want(t, ask(t, b.attach(t), testplugin.Return, 4), 4, 0)
}

// TestAttachFailsFirst has a plugin that cannot attach the container in time, and can at its first call.
func TestAttachFailsFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := testcaller.Start(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	claim := container.Claim{ID: "late", Runtime: "test", PID: c.PID}
	plugin := b.stopPlugin(t, "trial_errno")
	if err := b.Attach(ctx, c.Listener(t, unix.SYS_GETPPID), claim); err != nil {
		t.Fatal(err)
	}
	b.log.await(t, 1, "its next call tries again")
	call := begin(c, testplugin.Return, 4)
	unix.Kill(plugin, unix.SIGCONT) // fails if the launcher has replaced the process, which was stopped for long
	want(t, testcaller.Await(t, call), 4, 0)
}

// TestManyContainers lets go of two hundred, and looks for what they left.
func TestManyContainers(t *testing.T) {
	b := newBench(t, options{})
	b.close()            // of the bench: the one below is measured
	const idleLanes = 16 // that core/launcher keeps of a plugin
	before := resources()
	before.descriptors += idleLanes
	t.Cleanup(func() { resources().report(t, before) })
	broker, err := New(Config{Generation: b.newGeneration(options{}), Log: b.log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	b.Broker = broker
	for batch := range 10 {
		var containers []*testcaller.Caller
		for i := range 20 {
			c := testcaller.Start(t, 0)
			containers = append(containers, c)
			b.attachCaller(t, c, fmt.Sprintf("many-%d-%d", batch, i))
			begin(c, testplugin.Hold, 1)
			want(t, ask(t, c, testplugin.Return, 1), 1, 0)
		}
		var gates []*held
		for range containers {
			gates = append(gates, b.gate.next(t))
		}
		for i, c := range containers {
			c.Close()
			gates[i].open()
		}
	}
	eventually(t, "the containers are gone", func() bool { return len(b.Status()) == 0 })
	b.close()
	eventually(t, "nothing is left", func() bool { return resources().within(before) })
}
