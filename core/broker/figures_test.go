package broker

import (
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/figures"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

// TestFigures counts calls of two containers by how they ended, and by the plugin that decided or handed back.
func TestFigures(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c, other := testcaller.Start(t, 0), testcaller.Start(t, 0)
	b.attachCaller(t, c, "one")
	b.attachCaller(t, other, "two")
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
	want(t, ask(t, c, testplugin.Return, 2), 2, 0)
	want(t, ask(t, c, testplugin.Error), 0, syscall.EIO)
	ask(t, c, testplugin.Next)
	c.Call(t, unix.SYS_GETPPID) // which the plugin does not take
	want(t, ask(t, other, testplugin.Return, 3), 3, 0)

	all := figures.Calls{Return: 2, Errno: 1, Continue: 2, Failed: 1}
	one := func() ContainerFacts { return b.FactsByID("one")[0] }
	eventually(t, "the calls are counted", func() bool { return one().Outcomes == all })
	eventually(t, "the durations are counted", func() bool { return sum(one().Durations) == 5 })
	f := one()
	if f.Throttled != 0 {
		t.Errorf("%d throttled", f.Throttled)
	}
	if got := f.Served[0].Outcomes; got != (figures.Calls{Return: 2, Errno: 1, Next: 1, Failed: 1}) {
		t.Errorf("of the plugin: %+v", got)
	}
	total := func() PluginCalls { return b.PluginCalls()[0] }
	eventually(t, "the other's call is counted", func() bool { return total().Outcomes.Return == 3 })
	if got := total(); got.Plugin != "trial_errno" || got.Inflight != 0 || sum(got.Durations) != 5 {
		t.Errorf("all calls of the plugin: %+v", got)
	}

	held := begin(other, testplugin.Ignore, 4)
	gate := b.gate.next(t)
	if got := total().Inflight; got != 1 {
		t.Errorf("%d calls are with the plugin", got)
	}
	gate.open()
	want(t, testcaller.Await(t, held), 4, 0)
	c.End()
	eventually(t, "the container is gone", func() bool { return len(b.Status()) == 1 })
	eventually(t, "the call that was held is counted", func() bool { return total().Outcomes.All() == 6 })
	if got := total().Outcomes; got.Errno != 1 {
		t.Errorf("of the plugin, after the container's end: %+v", got)
	}
}

func sum(d figures.Durations) (n uint64) {
	for _, count := range d {
		n += count
	}
	return n
}

// TestFiguresOfHungCall counts a call that the watchdog answers, once.
func TestFiguresOfHungCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: time.Second})
	file := testcaller.NewHangingFile(t)
	c, page := b.hangingPage(t, file)
	want(t, c.Call(t, unix.SYS_CHDIR, page), 0, syscall.EIO)
	hung := figures.Calls{Errno: 1, Failed: 1}
	facts := func() ContainerFacts { return b.FactsByID("hanging")[0] }
	eventually(t, "the call is counted", func() bool { return facts().Outcomes == hung })
	file.Answer()
	eventually(t, "the thread is back", func() bool { return facts().Inflight == 0 })
	if f := facts(); f.Outcomes != hung || f.Served[0].Outcomes != hung {
		t.Errorf("%+v, of the plugin %+v", f.Outcomes, f.Served[0].Outcomes)
	}
}

// TestThrottled has a container above its rate.
func TestThrottled(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{limits: Limits{Rate: 1e-6, Burst: 1}})
	c := b.attach(t)
	ask(t, c, testplugin.Return, 1) // the first comes before any is counted
	ask(t, c, testplugin.Return, 1)
	eventually(t, "the container is throttled", func() bool { return b.Status()[0].Throttled == 1 })
}
