package broker

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
)

// await waits for the result of a call, while another container's calls are served.
func (b *bench) await(t *testing.T, call <-chan testcaller.Result, other *testcaller.Caller) testcaller.Result {
	t.Helper()
	for i := uint64(0); ; i++ {
		select {
		case r := <-call:
			return r
		case <-time.After(time.Millisecond):
			want(t, ask(t, other, testplugin.Return, i), int64(i), 0)
		}
	}
}

// statusOf returns the status of the container that was attached as i-th.
func (b *bench) statusOf(i int) ContainerStatus { return b.Status()[i] }

// TestCallsHangInPlugin has calls of a container that a plugin keeps beyond their deadlines: from the fifth on they are
// not shown to it, until one is back.
func TestCallsHangInPlugin(t *testing.T) {
	if os.Getenv("INTERCEDE_TEST_TRANSPORT") == "grpc" {
		return // nothing tells when a call is back
	}
	t.Parallel()
	const most = 4
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	c, other := b.attach(t), b.attach(t)
	want(t, ask(t, c, testplugin.Return, 1), 1, 0) // the first goes by another way
	var calls []<-chan testcaller.Result
	var gates []*held
	for i := range most {
		calls = append(calls, begin(c, testplugin.Ignore, uint64(i)))
		gates = append(gates, b.gate.next(t))
	}
	for _, call := range calls {
		want(t, b.await(t, call, other), 0, syscall.EIO)
	}
	b.log.await(t, 1, `"level":"warn"`, `"quarantined: calls of the container hang`, `"plugin":"trial_errno"`)
	q := b.statusOf(0).Quarantines
	if len(q) != 1 || q[0].Plugin != "trial_errno" || !strings.HasPrefix(q[0].Reason, "4 calls hang") || !q[0].Until.IsZero() {
		t.Errorf("quarantines %+v", q)
	}
	for range 20 {
		want(t, b.await(t, begin(c, testplugin.Return, 1), other), 0, syscall.EIO)
	}
	gates[0].open()
	b.log.await(t, 1, `"level":"info"`, "the quarantine is over")
	want(t, b.await(t, begin(c, testplugin.Return, 1), other), 1, 0)
	for _, g := range gates[1:] {
		g.open()
	}
	eventually(t, "no call hangs", func() bool { return b.kept(0) == 0 })
	if n := b.log.count(`"quarantined: `); n != 1 || b.statusOf(0).Quarantines != nil {
		t.Errorf("the log has %d quarantines, the status %+v", n, b.statusOf(0).Quarantines)
	}
}

// kept is how many calls of the container that was attached as i-th a plugin may still be at.
func (b *bench) kept(i int) int {
	id := b.statusOf(i).ID
	a := b.attachmentsOf(func(known string) bool { return known == id })[0].admission
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept
}

// TestKilledCallersCount has callers killed while a plugin is at their calls: these count until the plugin is back, and
// leave the container one call at a time.
func TestKilledCallersCount(t *testing.T) {
	if os.Getenv("INTERCEDE_TEST_TRANSPORT") == "grpc" {
		return // nothing tells when a call is back
	}
	t.Parallel()
	const limit = 3
	b := newBench(t, options{limits: Limits{MaxInflight: limit}})
	c := testcaller.Start(t, 1)
	b.attachCaller(t, c, "shared")
	b.attachCaller(t, c.Session[0], "shared")
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
	var killed []*held
	for range limit {
		begin(c.Session[0], testplugin.Ignore, 0)
		killed = append(killed, b.gate.next(t))
	}
	c.Session[0].End()
	eventually(t, "the calls are kept", func() bool { return b.kept(0) == limit })
	var calls []<-chan testcaller.Result
	for i := range uint64(10) {
		calls = append(calls, begin(c, testplugin.Ignore, i))
	}
	for range 3 {
		g := b.gate.next(t)
		if n := len(b.gate.arrived); n != 0 {
			t.Errorf("%d more calls are at the gate", n)
		}
		g.open()
	}
	for _, g := range killed {
		g.open()
	}
	eventually(t, "no call is kept", func() bool { return b.kept(0) == 0 })
	var gates []*held
	for range limit {
		gates = append(gates, b.gate.next(t))
	}
	for range len(calls) - 3 - limit {
		gates[0].open()
		gates = append(gates[1:], b.gate.next(t))
	}
	for _, g := range gates {
		g.open()
	}
	for i, call := range calls {
		want(t, testcaller.Await(t, call), int64(i), 0)
	}
	if q := b.statusOf(0).Quarantines; q != nil {
		t.Errorf("quarantines %+v", q)
	}
}

// identify returns the process that serves the container.
func identify(t *testing.T, c *testcaller.Caller) int64 {
	t.Helper()
	r := ask(t, c, testplugin.Identify)
	want(t, r, r.Value, 0)
	return r.Value
}

// TestIsolation has a container whose calls end the plugin's process, again and again, and one that happens to have a
// call in it the first time, and calls all the time from then on. The second sees no error after that, nor does a third
// one; the first is quarantined, and then for twice as long.
func TestIsolation(t *testing.T) {
	t.Parallel()
	times := launcher.Times{Quarantine: 4 * time.Second, Quiet: 15 * time.Second}
	b := newBench(t, options{plugins: []string{"trial_errno"}, times: times, rooms: launcher.NewRooms(4)})
	culprit, bystander, third := b.attach(t), b.attach(t), b.attach(t)
	for _, c := range []*testcaller.Caller{culprit, bystander, third} {
		identify(t, c)
	}
	unlucky := begin(bystander, testplugin.Ignore, 1)
	b.gate.next(t)
	want(t, ask(t, culprit, testplugin.Exit), 0, syscall.EIO)
	want(t, testcaller.Await(t, unlucky), 0, syscall.EIO)
	b.log.await(t, 2, "died with calls of the container, which gets one of its own")
	own, shared := identify(t, bystander), identify(t, third)
	if own == shared {
		t.Errorf("process %d serves all", own)
	}
	for round := range 2 {
		for range 3 {
			recovered(t, culprit)
			want(t, b.await(t, begin(culprit, testplugin.Exit), bystander), 0, syscall.EIO)
		}
		b.log.await(t, round+1, `"level":"warn"`, `"quarantined: calls of the container get the failure verdict"`)
		q := b.statusOf(0).Quarantines
		if len(q) != 1 || q[0].Until.Sub(q[0].Since) != times.Quarantine<<round ||
			!strings.Contains(q[0].Reason, "that served the container alone") {
			t.Fatalf("quarantines %+v", q)
		}
		for range 20 {
			r := b.await(t, begin(culprit, testplugin.Return, 1), bystander)
			if time.Now().Before(q[0].Until) {
				want(t, r, 0, syscall.EIO)
			}
		}
		if identify(t, third) != shared {
			t.Error("the shared process has ended")
		}
		b.log.await(t, round+1, `"level":"info"`, "the quarantine is over")
	}
	eventually(t, "the bystander shares the process again", func() bool { return identify(t, bystander) == shared })
	if pid := recovered(t, culprit).Value; pid == shared || pid == own {
		t.Errorf("process %d serves the culprit", pid)
	}
	if s := b.plugins["trial_errno"].Status(); s.Restarts != 1 || s.Isolated == 0 {
		t.Errorf("status %+v", s)
	}
	culprit.Kill()
	eventually(t, "nobody is isolated", func() bool { return b.plugins["trial_errno"].Status().Isolated == 0 })
	if n := b.log.count(`"outcome":"errno"`, b.statusOf(0).ID); n != 1 {
		t.Errorf("%d calls of the bystander have failed", n)
	}
}

// TestIsolationWithoutRoom has one room, which a bystander gets first: the container that is there at the next death
// too gets it then.
func TestIsolationWithoutRoom(t *testing.T) {
	t.Parallel()
	times := launcher.Times{Quarantine: time.Hour}
	b := newBench(t, options{plugins: []string{"trial_errno"}, times: times, rooms: launcher.NewRooms(1)})
	culprit, bystander := b.attach(t), b.attach(t)
	identify(t, culprit)
	unlucky := begin(bystander, testplugin.Ignore, 1)
	b.gate.next(t)
	want(t, ask(t, culprit, testplugin.Exit), 0, syscall.EIO)
	want(t, testcaller.Await(t, unlucky), 0, syscall.EIO)
	b.log.await(t, 2, "which gets one of its own")
	own := identify(t, bystander)
	shared := recovered(t, culprit).Value
	if own == shared {
		t.Errorf("process %d serves all", own)
	}
	for range 4 {
		recovered(t, culprit)
		want(t, b.await(t, begin(culprit, testplugin.Exit), bystander), 0, syscall.EIO)
	}
	b.log.await(t, 1, `"quarantined: calls of the container get the failure verdict"`)
	eventually(t, "the bystander shares a process", func() bool {
		return identify(t, bystander) == int64(b.plugins["trial_errno"].Status().PID)
	})
	if s := b.plugins["trial_errno"].Status(); s.Restarts != 2 {
		t.Errorf("status %+v", s)
	}
}
