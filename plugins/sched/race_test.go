package sched

import (
	"context"
	"os"
	"strconv"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

func TestManyThreads(t *testing.T) {
	const threads, each = 16, 8
	c := sdktest.NewContainer(t, plugin, sdktest.WithSettings(map[string]any{"min_nice": -10}))
	for _, test := range []struct {
		call string
		want unix.Errno
	}{
		{scheduler(0, "SCHED_RR", 3), 0},
		{param(0, 0), 0},
		{attr(0, "SCHED_BATCH", 0, 0), 0},
		{"sys setpriority PRIO_PROCESS 0 -4", 0},
		{scheduler(1, "SCHED_IDLE", 0), 0},
		{scheduler(4000000, "SCHED_FIFO", 1), unix.ESRCH},
	} {
		lines := c.Call(t, "threads "+strconv.Itoa(threads), "repeat "+strconv.Itoa(each), test.call).Lines(t)
		if counts := sdktest.Tally(lines); counts[test.want] != threads*each {
			t.Errorf("%s: %v", test.call, counts)
		}
	}
}

// TestNoDescriptorsLeft counts what the plugin, in this process, leaves open.
func TestNoDescriptorsLeft(t *testing.T) {
	c := sdktest.NewContainer(t, plugin)
	count := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(open)
	}
	before := count()
	for range 2 {
		c.Call(t,
			"repeat 30", scheduler(0, "SCHED_RR", 1),
			"repeat 30", scheduler(1, "SCHED_RR", 1),
			"repeat 30", scheduler(4000000, "SCHED_RR", 1),
			"repeat 30", scheduler(1, "SCHED_RR", 100),
			"unshare user",
			"repeat 30", scheduler(1, "SCHED_RR", 2))
	}
	if after := count(); after > before+25 { // those of the programs themselves are closed at the end
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func TestManyProcesses(t *testing.T) {
	c := sdktest.NewContainer(t, plugin)
	program := c.Install(t, sdktest.Caller(t))
	var processes []*sdktest.Process
	for i := range 16 {
		processes = append(processes, c.Start(t, program, scheduler(0, "SCHED_RR", i+1), "sys sched_getparam 0 buf:4"))
	}
	for i, p := range processes {
		if lines := p.Wait(t).Lines(t); lines[0].Errno != 0 || int(lines[1].Bufs[0][0]) != i+1 {
			t.Errorf("caller %d gets %+v", i, lines)
		}
	}
}

// TestCallerKilled kills the caller before the plugin works, and between its work and the answer: another thread, which
// it names, is changed in the second case alone.
func TestCallerKilled(t *testing.T) {
	for when, want := range map[sdktest.Moment]int64{sdktest.BeforeWork: unix.SCHED_NORMAL, sdktest.AfterWork: unix.SCHED_FIFO} {
		t.Run(string(when), func(t *testing.T) {
			hold := sdktest.NewHold(plugin, when, nil)
			c := sdktest.NewContainer(t, hold)
			hold.KillCaller(t, c, scheduler(1, "SCHED_FIFO", 1))
			if lines := c.Call(t, "sys sched_getscheduler 1").Lines(t); lines[0].Ret != want {
				t.Errorf("the thread that it named has policy %d, want %d", lines[0].Ret, want)
			}
		})
	}
}

// TestTargetKilled kills the thread that the caller names while the plugin works.
func TestTargetKilled(t *testing.T) {
	victims := make(chan *sdktest.Process, 1)
	kill := func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error) {
		p := <-victims
		p.Kill(t)
		waitReaped(t, p.PID)
		return next.Handle(ctx, req)
	}
	c := sdktest.NewContainer(t, sdktest.Around{Handler: plugin, Handle: kill})
	c.Call(t, "do mknod s:/tmp/never S_IFIFO|0666 0").Lines(t)
	program := c.Install(t, sdktest.Caller(t))
	for _, call := range []func(int) string{
		func(tid int) string { return scheduler(tid, "SCHED_FIFO", 1) },
		func(tid int) string { return param(tid, 0) },
		func(tid int) string { return attr(tid, "SCHED_FIFO", 0, 1) },
	} {
		victim := c.Start(t, program, "open /tmp/never O_RDONLY")
		tid := numberOf(t, victim.PID)
		victims <- victim
		if got := sdktest.Errnos(c.Call(t, call(tid)).Lines(t)); got != "ESRCH" {
			t.Errorf("%s: the caller gets %s", call(tid), got)
		}
	}
}
