package broker

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"golang.org/x/sys/unix"
)

// killPlugin kills the plugin's process from outside, as somebody on the host may.
func (b *bench) killPlugin(t *testing.T, name string) {
	t.Helper()
	if err := unix.Kill(b.runningPID(t, name), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// runningPID waits until the plugin runs: 0 would be this process's own group for kill(2).
func (b *bench) runningPID(t *testing.T, name string) (pid int) {
	t.Helper()
	eventually(t, "the plugin runs", func() bool {
		pid = b.plugins[name].Status().PID
		return pid != 0
	})
	return pid
}

// TestRepeat has calls that end their process: each class decides what becomes of them.
func TestRepeat(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		plugin   string
		op       testplugin.Op
		value    int64
		errno    syscall.Errno
		restarts int
	}{
		"never":               {"trial_errno", testplugin.ExitOnce, 0, syscall.EIO, 1},
		"safe":                {"trial_errno_safe", testplugin.ExitOnce, 5, 0, 1},
		"check, not done":     {"trial_errno_check", testplugin.ExitOnce, 5, 0, 1},
		"check, done":         {"trial_errno_check", testplugin.ExitDone, 5, 0, 1},
		"safe, again, always": {"trial_errno_safe", testplugin.Exit, 0, syscall.EIO, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, options{plugins: []string{test.plugin}})
			c := b.attach(t)
			want(t, ask(t, c, test.op, 5), test.value, test.errno)
			recovered(t, c)
			if s := b.plugins[test.plugin].Status(); s.Restarts != test.restarts {
				t.Errorf("status %+v", s)
			}
		})
	}
}

// TestLoseNextAnswer has answers lost with the processes that gave them.
func TestLoseNextAnswer(t *testing.T) {
	t.Parallel()
	for plugin, result := range map[string]testcaller.Result{
		"trial_errno": {Value: 0, Errno: syscall.EIO}, "trial_errno_safe": {Value: 5}, "trial_errno_check": {Value: 5},
	} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, options{plugins: []string{plugin}})
			c := b.attach(t)
			for i := range 3 {
				b.plugins[plugin].LoseNextAnswer(true)
				want(t, ask(t, c, testplugin.Return, 5), result.Value, result.Errno)
				recovered(t, c)
				if s := b.plugins[plugin].Status(); s.Restarts != i+1 || s.Isolated != 0 {
					t.Errorf("status %+v", s)
				}
			}
		})
	}
}

// TestUnreadCalls has a plugin killed that has not received its calls: the next process does, whatever their class.
func TestUnreadCalls(t *testing.T) {
	if os.Getenv("INTERCEDE_TEST_TRANSPORT") == "grpc" {
		return // nothing tells what has been received
	}
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	identify(t, c)
	for range 5 {
		pid := b.stopPlugin(t, "trial_errno")
		var calls []<-chan testcaller.Result
		for i := range uint64(20) {
			calls = append(calls, begin(c, testplugin.Return, i))
		}
		eventually(t, "the calls are with the plugin, or the launcher has replaced the process, which was stopped for long", func() bool {
			return b.statusOf(0).Inflight == len(calls) || b.plugins["trial_errno"].Status().PID != pid
		})
		unix.Kill(pid, unix.SIGKILL)
		for i, call := range calls {
			want(t, testcaller.Await(t, call), int64(i), 0)
		}
	}
}

// TestPoisonousCall has a call that ends each process that gets it, and a bystander: of the process that both share one
// dies, and no call of the bystander fails.
func TestPoisonousCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno_safe"}, rooms: launcher.NewRooms(4)})
	culprit, bystander := b.attach(t), b.attach(t)
	identify(t, culprit)
	unlucky := begin(bystander, testplugin.Hold, 7)
	b.gate.next(t)
	call := begin(culprit, testplugin.Exit)
	b.gate.next(t).open() // the bystander's call again
	want(t, testcaller.Await(t, unlucky), 7, 0)
	want(t, b.await(t, call, bystander), 0, syscall.EIO)
	want(t, b.await(t, begin(culprit, testplugin.Exit), bystander), 0, syscall.EIO)
	eventually(t, "the culprit is quarantined", func() bool { return len(b.statusOf(0).Quarantines) == 1 })
	restarts := func() int { return b.plugins["trial_errno_safe"].Status().Restarts }
	if eventually(t, "the process that both shared is started again", func() bool { return restarts() > 0 }); restarts() != 1 {
		t.Errorf("%d restarts of the process that both shared", restarts())
	}
	if b.statusOf(1).Failures > 0 {
		t.Error("calls of the bystander have failed")
	}
}

// TestKilledFromOutside has a plugin killed again and again while containers call: no call fails, nobody is blamed, and
// the pause before the next start does not grow.
func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno_safe"}, rooms: launcher.NewRooms(4)})
	var over atomic.Bool
	var calling sync.WaitGroup
	for range 4 {
		c := b.attach(t)
		calling.Go(func() {
			for i := uint64(0); !over.Load(); i++ {
				want(t, ask(t, c, testplugin.Return, i), int64(i), 0)
			}
		})
	}
	for range 30 {
		pid := b.plugins["trial_errno_safe"].Status().PID
		b.killPlugin(t, "trial_errno_safe")
		eventually(t, "the next process runs", func() bool {
			s := b.plugins["trial_errno_safe"].Status()
			return s.PID != 0 && s.PID != pid
		})
	}
	over.Store(true)
	calling.Wait()
	if s := b.plugins["trial_errno_safe"].Status(); s.Restarts != 30 || s.Isolated != 0 || b.log.count("one of its own") > 0 {
		t.Errorf("status %+v", s)
	}
}

// TestMemoryIsUsedUp has a call that uses up the memory of its plugin, which the kernel kills for that: the container
// is to blame, though the signal is the one that somebody outside would send.
func TestMemoryIsUsedUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, rooms: launcher.NewRooms(4)})
	c := b.attach(t)
	identify(t, c)
	want(t, ask(t, c, testplugin.Allocate, 4096), 0, syscall.EIO)
	b.log.await(t, 1, "which gets one of its own")
}

// TestStoppedPlugin stops the plugin's process: it is replaced long before a deadline, and the calls that it has not
// received are answered by the next one.
func TestStoppedPlugin(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno_safe"}, rooms: launcher.NewRooms(4)})
	c := b.attach(t)
	pid := identify(t, c)
	b.stopPlugin(t, "trial_errno_safe")
	want(t, ask(t, c, testplugin.Return, 3), 3, 0)
	b.log.await(t, 1, `"level":"warn"`, "was stopped, by SIGSTOP or a debugger")
	if identify(t, c) == pid || b.log.count("one of its own") > 0 {
		t.Error("the stopped process goes on, or the container is blamed")
	}
}

// TestKeep has a plugin keep something, which its next process gets.
func TestKeep(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno_safe"}})
	c, other := b.attach(t), b.attach(t)
	want(t, ask(t, c, testplugin.Keep, 1, 100), 0, 0)
	want(t, ask(t, c, testplugin.Keep, 2, 200), 0, 0)
	want(t, ask(t, c, testplugin.Keep, 2, 64<<10), 0, syscall.EDQUOT)
	want(t, ask(t, c, testplugin.Keep, 3, 5), 0, 0)
	want(t, ask(t, c, testplugin.Forget, 1), 0, 0)
	want(t, ask(t, c, testplugin.Forget, 17), 0, 0)
	want(t, ask(t, c, testplugin.Kept, 2), 0, syscall.ENODATA) // what it has been attached with
	b.killPlugin(t, "trial_errno_safe")
	recovered(t, c)
	want(t, ask(t, c, testplugin.Kept, 1), 0, syscall.ENODATA)
	want(t, ask(t, c, testplugin.Kept, 2), 200, 0)
	want(t, ask(t, c, testplugin.Kept, 3), 5, 0)
	want(t, ask(t, other, testplugin.Kept, 2), 0, syscall.ENODATA)
}
