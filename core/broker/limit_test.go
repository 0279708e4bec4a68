package broker

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

// TestInflightLimit checks that calls above the limit wait and do not fail, and that they are another container's
// business in nothing.
func TestInflightLimit(t *testing.T) {
	t.Parallel()
	const limit, calls = 3, 20
	b := newBench(t, options{limits: Limits{MaxInflight: limit}})
	busy, other := b.attach(t), b.attach(t)
	var results []<-chan testcaller.Result
	for i := range calls {
		results = append(results, begin(busy, testplugin.Ignore, uint64(i)))
	}
	var gates []*held
	for done := 0; done < calls; done++ {
		for len(gates) < min(limit, calls-done) {
			gates = append(gates, b.gate.next(t))
		}
		want(t, ask(t, other, testplugin.Return, 1), 1, 0)
		for _, s := range b.Status() {
			if s.Inflight > limit {
				t.Errorf("%d calls are handled", s.Inflight)
			}
		}
		if n := len(b.gate.arrived); n != 0 {
			t.Errorf("%d more calls are at the gate", n)
		}
		gates[0].open()
		gates = gates[1:]
	}
	for i, result := range results {
		want(t, testcaller.Await(t, result), int64(i), 0)
	}
}

// TestRateLimit has a rate so low that nothing comes after the burst while the test runs.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	const burst = 3
	b := newBench(t, options{plugins: []string{"trial_errno"}, limits: Limits{Rate: 1e-6, Burst: burst}})
	busy, other := b.attach(t), b.attach(t)
	for range burst + 1 { // the first comes before any is counted
		want(t, ask(t, busy, testplugin.Return, 1), 1, 0)
	}
	waiting := begin(busy, testplugin.Return, 2)
	want(t, ask(t, other, testplugin.Return, 3), 3, 0)
	select {
	case r := <-waiting:
		t.Errorf("a call above the rate returned %+v", r)
	default:
	}
	b.close()
	r := testcaller.Await(t, waiting)
	// Whether the call was parked before the listener was closed is the scheduler's choice.
	if r.Errno != syscall.EIO && r.Errno != unix.ENOSYS {
		t.Errorf("at the end it returned %+v", r)
	}
}

// TestClose has calls that are handled, and calls that wait for their turn: all get the verdict. Later ones get ENOSYS.
func TestClose(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, limits: Limits{MaxInflight: 2}})
	c := b.attach(t)
	var calls []<-chan testcaller.Result
	for i := range 2 {
		calls = append(calls, begin(c, testplugin.Hold, uint64(i)))
		b.gate.next(t)
	}
	b.close()
	for _, call := range calls {
		want(t, testcaller.Await(t, call), 0, syscall.EIO)
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, unix.ENOSYS)
}

// TestCloseLetsFinish has a call that is answered while the broker closes.
func TestCloseLetsFinish(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	call := begin(c, testplugin.Hold, 12)
	g := b.gate.next(t)
	broker, closed := b.Broker, make(chan struct{})
	b.Broker = nil
	go func() {
		broker.Close()
		close(closed)
	}()
	eventually(t, "the broker is closing", func() bool { return len(broker.Status()) == 0 })
	g.open()
	want(t, testcaller.Await(t, call), 12, 0)
	<-closed
}

// TestCloseUnderStorm closes while containers call as fast as they can, again and again: it must come to an end.
func TestCloseUnderStorm(t *testing.T) {
	t.Parallel()
	for range 5 {
		b := newBench(t, options{plugins: []string{"trial_errno"}, limits: Limits{MaxInflight: 4}})
		var storms []*testcaller.Caller
		for range 3 {
			c := b.attach(t)
			c.Storm(8, unix.SYS_GETPPID, op(testplugin.Return, 1)...)
			storms = append(storms, c)
		}
		eventually(t, "the storms are there", func() bool {
			for _, s := range b.Status() {
				if s.Calls < 20 {
					return false
				}
			}
			return true
		})
		b.close()
		for _, c := range storms {
			c.Kill()
		}
	}
}

// TestSetGeneration checks that a container keeps its generation, which is released after the last that has it.
func TestSetGeneration(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"first", "second_errno"}})
	released := make(chan struct{})
	old := b.newGeneration(options{plugins: []string{"first"}})
	old.Released = func() { close(released) }
	b.SetGeneration(old)
	before := b.attach(t)
	b.SetGeneration(b.newGeneration(options{plugins: []string{"second_errno"}}))
	after := b.attach(t)
	want(t, ask(t, before, testplugin.Identify), int64(b.plugins["first"].Status().PID), 0)
	want(t, ask(t, after, testplugin.Identify), int64(b.plugins["second_errno"].Status().PID), 0)
	select {
	case <-released:
		t.Error("the generation is released while a container has it")
	default:
	}
	before.Kill()
	<-released
	want(t, ask(t, after, testplugin.Return, 1), 1, 0)
}

func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	null, _ := os.Open(os.DevNull)
	regular, _ := os.Open("harness_test.go")
	read, write, _ := os.Pipe()
	defer write.Close()
	for name, file := range map[string]*os.File{"a device": null, "a file": regular, "a pipe": read} {
		t.Run(name, func(t *testing.T) {
			err := b.Attach(context.Background(), file, container.Claim{ID: "x", Runtime: "test", PID: os.Getpid()})
			if err == nil {
				t.Error("it is attached")
			}
			if err := file.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("it was left open: %v", err)
			}
		})
	}
	for name, pid := range map[string]int{"no process": 1 << 30, "negative": -1, "none named": 0} {
		t.Run(name, func(t *testing.T) {
			c := testcaller.Start(t, 0)
			claim := container.Claim{ID: "x", Runtime: "test", PID: pid}
			if err := b.Attach(context.Background(), c.Listener(t, unix.SYS_GETPPID), claim); err == nil {
				t.Error("it is attached")
			}
			want(t, ask(t, c, testplugin.Return, 1), 0, unix.ENOSYS)
		})
	}
	t.Run("dead container", func(t *testing.T) {
		c := testcaller.Start(t, 0)
		l := c.Listener(t, unix.SYS_GETPPID)
		c.Kill()
		err := b.Attach(context.Background(), l, container.Claim{ID: "x", Runtime: "test", PID: c.PID})
		if !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("got %v", err)
		}
	})
	if s := b.Status(); len(s) != 0 {
		t.Errorf("attached: %+v", s)
	}
}

// TestAttachDeadListener attaches a listener whose process is gone, of a container that lives.
func TestAttachDeadListener(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := testcaller.Start(t, 1)
	b.attachCaller(t, c, "half")
	l := c.Session[0].Listener(t, unix.SYS_GETPPID)
	c.Session[0].End()
	if err := b.Attach(context.Background(), l, container.Claim{ID: "half", Runtime: "test"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the listener is dropped", func() bool { return b.Status()[0].Listeners == 1 })
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
}

// TestHostProcess claims a process that is in no user namespace of its own: nothing is done for it.
func TestHostProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := testcaller.Start(t, 0)
	claim := container.Claim{ID: "host", Runtime: "test", PID: os.Getpid()}
	if err := b.Attach(context.Background(), c.Listener(t, unix.SYS_GETPPID), claim); err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, c, testplugin.Return, 1), realPPID, 0)
	b.log.await(t, 1, `"level":"info"`, "no user namespace of its own")
}

// TestHostProcessServed has a plugin beside it that serves any container: it is asked, and no other.
func TestHostProcessServed(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno", "trial_any"}})
	c := testcaller.Start(t, 0)
	claim := container.Claim{ID: "host", Runtime: "test", PID: os.Getpid()}
	if err := b.Attach(context.Background(), c.Listener(t, unix.SYS_GETPPID), claim); err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, c, testplugin.Return, 7), 7, 0)
	if got := b.Status()[0].Plugins; !slices.Equal(got, []string{"trial_any"}) {
		t.Errorf("served by %q, want trial_any alone", got)
	}
	b.stopPlugin(t, "trial_errno")
	want(t, ask(t, c, testplugin.Return, 8), 8, 0)
}

// TestOtherContainersPID claims another container's process. The calls are served as those of a container of that user
// namespace, whose own attachment is untouched.
func TestOtherContainersPID(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	honest, liar := b.attach(t), testcaller.Start(t, 0)
	claim := container.Claim{ID: "liar", Runtime: "test", PID: honest.PID}
	if err := b.Attach(context.Background(), liar.Listener(t, unix.SYS_GETPPID), claim); err != nil {
		t.Fatal(err)
	}
	want(t, ask(t, liar, testplugin.Return, 1), 1, 0)
	liar.Kill()
	eventually(t, "the liar is gone", func() bool { return len(b.Status()) == 1 })
	want(t, ask(t, honest, testplugin.Return, 2), 2, 0)
}
