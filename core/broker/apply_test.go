package broker

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"golang.org/x/sys/unix"
)

// give makes a generation of these options the current one, and gives it to the running containers.
func (b *bench) give(t *testing.T, o options) []Applied {
	t.Helper()
	b.SetGeneration(b.newGeneration(o))
	return b.Apply(t.Context())
}

// giveAll is give where it must succeed, with one container.
func (b *bench) giveAll(t *testing.T, o options) Applied {
	t.Helper()
	applied := b.give(t, o)
	if len(applied) != 1 || applied[0].Error != "" {
		t.Fatalf("%+v", applied)
	}
	return applied[0]
}

func named(plugins ...string) options { return options{plugins: plugins} }

func switched(value string, plugins ...string) options {
	return options{plugins: plugins, settings: map[string]string{"switch": value}}
}

// wantApplied fails the test unless what came of an apply is as given, in the order added; changed; taken; revoked;
// unnotified.
func wantApplied(t *testing.T, got Applied, want string) {
	t.Helper()
	text := fmt.Sprint(got.Added, got.Changed, got.Taken, got.Revoked, got.Unnotified)
	if text != want {
		t.Errorf("%s, want %s: %+v", text, want, got)
	}
}

// A running container gets other plugins and settings. What its plugins keep stays, also while the policy does not give
// them.
func TestApply(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("trial", "other_errno"))
	first := named("trial")
	b.SetGeneration(b.newGeneration(first))
	c := b.attach(t)
	getsid := func() testcaller.Result { return c.Call(t, unix.SYS_GETSID, 0) }
	pid := func(plugin string) int64 { return int64(b.plugins[plugin].Status().PID) }
	real := getsid().Value
	want(t, ask(t, c, testplugin.Keep, 7, 2), 0, 0)

	wantApplied(t, b.giveAll(t, named("trial")), "[] [] [] [] []")
	want(t, ask(t, c, testplugin.Kept, 7), 0, syscall.ENODATA) // the session is the one that was there

	changed := b.giveAll(t, switched("four", "trial"))
	wantApplied(t, changed, "[] [trial] [] [] [getsid]")
	if !slices.Equal(changed.Kept, []string{"trial: 7: 0x0000"}) {
		t.Errorf("kept %q", changed.Kept)
	}
	want(t, getsid(), 4, 0)
	want(t, ask(t, c, testplugin.Kept, 7), 2, 0)
	if s := b.Status()[0]; !slices.Equal(s.Unnotified, []string{"getsid"}) || !slices.Equal(s.Plugins, []string{"trial"}) {
		t.Errorf("status %+v", s)
	}

	wantApplied(t, b.giveAll(t, named("other_errno")), "[other_errno] [] [trial] [] []")
	want(t, ask(t, c, testplugin.Identify), pid("other_errno"), 0)
	want(t, getsid(), real, 0)
	wantApplied(t, b.giveAll(t, named("trial")), "[trial] [] [other_errno] [] []")
	if s := b.Status()[0]; !slices.Equal(s.Plugins, []string{"trial"}) || len(s.Unserved) != 0 {
		t.Errorf("status %+v", s)
	}
	want(t, ask(t, c, testplugin.Identify), pid("trial"), 0)
	want(t, ask(t, c, testplugin.Kept, 7), 2, 0)

	none := b.newGeneration(first)
	none.Assign = func(*container.Container) Assignment { return Assignment{} }
	b.SetGeneration(none)
	if applied := b.Apply(t.Context()); len(applied) != 1 || !slices.Equal(applied[0].Taken, []string{"trial"}) {
		t.Errorf("%+v", applied)
	}
	want(t, ask(t, c, testplugin.Return, 1), realPPID, 0) // although the verdict of one of them is an errno
	if s := b.Status()[0]; len(s.Plugins)+len(s.Unserved) != 0 || s.Failures != 0 {
		t.Errorf("status %+v", s)
	}
	if applied := b.Apply(t.Context()); len(applied) != 0 {
		t.Errorf("once more: %+v", applied)
	}
}

// Where a manifest forbids that the kernel has a call, it does not when the policy takes the plugin away, or its
// settings leave nothing to it.
func TestApplyNeverContinues(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("never", "trial"))
	b.SetGeneration(b.newGeneration(switched("x", "never")))
	c := b.attach(t)
	want(t, c.Call(t, unix.SYS_GETSID, 0), 1, 0)
	wantApplied(t, b.giveAll(t, named("trial")), "[trial] [] [never] [] []")
	want(t, ask(t, c, testplugin.Return, 5), 5, 0)         // trial's
	want(t, ask(t, c, testplugin.Next), 0, syscall.EIO)    // trial hands it on
	want(t, c.Call(t, unix.SYS_GETSID, 0), 0, syscall.EIO) // trial does not take it
	wantApplied(t, b.giveAll(t, switched("yy", "never")), "[never] [] [trial] [] []")
	want(t, c.Call(t, unix.SYS_GETSID, 0), 2, 0)

	applied := b.give(t, named("never")) // which leaves getsid out
	if len(applied) != 1 || !strings.Contains(applied[0].Error, "getsid") {
		t.Errorf("%+v", applied)
	}
	want(t, c.Call(t, unix.SYS_GETSID, 0), 2, 0)
}

// A container whose plugin refuses the new settings keeps all of what it had, and the next reload can give it the rest.
func TestApplyRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("trial", "other"))
	b.SetGeneration(b.newGeneration(switched("three", "trial")))
	c := b.attach(t)
	refusing := switched("no", "trial", "other")
	refusing.settings["refuse"] = "not this one"
	applied := b.give(t, refusing)
	if len(applied) != 1 || !strings.Contains(applied[0].Error, "not this one") {
		t.Fatalf("%+v", applied)
	}
	want(t, c.Call(t, unix.SYS_GETSID, 0), 5, 0)
	if s := b.Status()[0]; !slices.Equal(s.Plugins, []string{"trial"}) {
		t.Errorf("status %+v", s)
	}
	b.log.await(t, 1, "error", "the container keeps the policy that it had")
	wantApplied(t, b.giveAll(t, switched("no", "trial", "other")), "[other] [trial] [] [] []")
	want(t, c.Call(t, unix.SYS_GETSID, 0), 2, 0)
}

// What `intercede revoke` has taken stays taken.
func TestApplyAfterRevoke(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("trial_errno", "other"))
	b.SetGeneration(b.newGeneration(named("trial_errno")))
	c := b.attach(t)
	id := b.Status()[0].ID
	if _, err := b.Revoke(id, ""); err != nil {
		t.Fatal(err)
	}
	for _, o := range []options{switched("x", "trial_errno"), named("other"), switched("y", "trial_errno")} {
		applied := b.giveAll(t, o)
		if !slices.Equal(applied.Revoked, []string{"trial_errno"}) {
			t.Errorf("%+v", applied)
		}
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO)
	b.giveAll(t, named("other"))
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
	if _, err := b.Revoke(id, ""); err != nil {
		t.Fatal(err)
	}
	b.giveAll(t, named("trial_errno"))
	if _, err := b.Revoke(id, ""); err == nil {
		t.Error("something came back")
	}
	want(t, ask(t, c, testplugin.Return, 1), 0, syscall.EIO) // other's verdict leaves it to that of the first
}

// While a container calls as fast as it can, each call gets the answer of one of the policies that it has meanwhile,
// and from the end of each Apply on that of the new one alone.
func TestApplyUnderLoad(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("first_errno", "second_errno"))
	policies := []options{switched("1", "first_errno"), switched("22", "second_errno"), switched("333", "first_errno")}
	b.SetGeneration(b.newGeneration(policies[0]))
	c := b.attach(t)
	var calls atomic.Int64
	var applied atomic.Int64 // twice the number of Applies that have returned, and one more while one is under way
	over := make(chan struct{})
	var calling sync.WaitGroup
	for range 3 {
		calling.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				before := applied.Load()
				r := c.Call(t, unix.SYS_GETSID, 0)
				after := applied.Load()
				calls.Add(1)
				right := false
				for n := before / 2; n <= (after+1)/2; n++ {
					right = right || r.Errno == 0 && r.Value == 1+n%3
				}
				if !right {
					t.Errorf("the caller got %d, %v between %d and %d", r.Value, r.Errno, before, after)
					return
				}
			}
		})
	}
	for n := 1; n <= 200 && !t.Failed(); n++ {
		applied.Add(1)
		b.giveAll(t, policies[n%3])
		applied.Add(1)
		eventually(t, "there are calls", func() bool { return t.Failed() || calls.Load() > int64(3*n) })
	}
	close(over)
	calling.Wait()
	if s := b.Status()[0]; s.Failures != 0 || s.Calls < 600 {
		t.Errorf("status %+v", s)
	}
}

// A call under way ends by the policy that it began with, and Apply waits for it.
func TestApplyWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("first", "second"))
	b.SetGeneration(b.newGeneration(named("first")))
	c := b.attach(t)
	held := c.Go(unix.SYS_GETPPID, op(testplugin.Identify, 0, 0, 1)...)
	h := b.gate.next(t)
	over := make(chan Applied)
	go func() { over <- b.giveAll(t, named("second")) }()
	eventually(t, "the container waits", func() bool {
		a := b.attachmentsOf(func(string) bool { return true })[0]
		a.admission.mu.Lock()
		defer a.admission.mu.Unlock()
		return a.admission.held
	})
	later := begin(c, testplugin.Identify)
	select {
	case <-over:
		t.Error("it does not wait for the call under way")
	default:
	}
	h.open()
	want(t, <-held, int64(b.plugins["first"].Status().PID), 0)
	wantApplied(t, <-over, "[second] [] [first] [] []")
	want(t, <-later, int64(b.plugins["second"].Status().PID), 0)
}

// A container hammers calls, from many threads and with signals in their midst, while its rights are taken away again
// and again: when Apply has returned, none of the old policy is performed.
func TestApplyTakesAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("first_errno", "second"))
	rights, none := b.newGeneration(named("first_errno")), b.newGeneration(named("second"))
	b.SetGeneration(rights)
	var taken atomic.Bool
	var performed, after atomic.Int64
	b.Observe(func(r audit.Record) {
		if r.Outcome.Plugin == "first_errno" {
			performed.Add(1)
			if taken.Load() {
				after.Add(1)
			}
		}
	})
	c := b.attachInterruptible(t)
	c.Storm(6, unix.SYS_GETPPID, op(testplugin.Return, 1)...)
	interrupting, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(interrupting)
		for {
			select {
			case <-over:
				return
			default:
				unix.Kill(c.PID, unix.SIGURG)
			}
		}
	}()
	for range 50 {
		before := performed.Load()
		eventually(t, "the rights are used", func() bool { return performed.Load() > before+5 })
		b.SetGeneration(none)
		if applied := b.Apply(t.Context()); len(applied) != 1 || applied[0].Error != "" {
			t.Fatalf("%+v", applied)
		}
		taken.Store(true)
		calls := b.Status()[0].Calls
		eventually(t, "there are calls", func() bool { return b.Status()[0].Calls > calls+5 })
		taken.Store(false)
		b.SetGeneration(rights)
		b.Apply(t.Context())
	}
	close(over)
	<-interrupting
	c.Kill()
	if n := after.Load(); n > 0 {
		t.Errorf("%d of %d calls were performed after the rights were taken away", n, performed.Load())
	}
}

// A call that is in the plugin although its deadline is over is listed, and ends by what it began with.
func TestApplyBusy(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}, deadline: shortDeadline})
	c := b.attach(t)
	late := begin(c, testplugin.Ignore, 3)
	h := b.gate.next(t)
	want(t, testcaller.Await(t, late), 0, syscall.EIO)
	if applied := b.giveAll(t, switched("four", "trial_errno")); applied.Busy != 1 {
		t.Errorf("%+v", applied)
	}
	want(t, c.Call(t, unix.SYS_GETSID, 0), 4, 0)
	h.open()
	if testplugin.WithoutLanes() {
		return // over gRPC nothing tells when the call is back
	}
	eventually(t, "none is late", func() bool { return b.attachmentsOf(func(string) bool { return true })[0].admission.atPlugins() == 0 })
	want(t, c.Call(t, unix.SYS_GETSID, 0), 4, 0)
}

// A call that a signal has taken its caller out of, and that comes again after Apply, has the answer of the first.
func TestApplyInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("first", "second"))
	b.SetGeneration(b.newGeneration(named("first")))
	c := b.attachInterruptible(t)
	result := begin(c, testplugin.Identify, 0, 0, 1)
	h := b.gate.next(t)
	c.Stop(t)
	h.open()
	b.awaitKept(t, 1)
	b.giveAll(t, named("second"))
	c.Continue(t)
	want(t, testcaller.Await(t, result), int64(b.plugins["first"].Status().PID), 0)
	b.checkIdle(t, 0)
}

// The daemon that comes next has the policy that was given last, and what the one before kept.
func TestApplyOutlivesTheBroker(t *testing.T) {
	l := newLineage(t, named("trial", "other_errno", "never"))
	l.generation = l.newGeneration(switched("", "trial", "never"))
	l.next(t)
	c := l.attach(t)
	want(t, ask(t, c, testplugin.Keep, 7, 2), 0, 0)
	l.giveAll(t, switched("four", "trial"))
	for range 2 {
		l.next(t)
		want(t, c.Call(t, unix.SYS_GETSID, 0), 4, 0)
		want(t, ask(t, c, testplugin.Next), 0, syscall.EIO) // of "never", which must not continue
		if s := l.Status()[0]; !slices.Equal(s.Unnotified, []string{"getsid"}) || !slices.Equal(s.Plugins, []string{"trial"}) {
			t.Errorf("status %+v", s)
		}
	}
	l.giveAll(t, named("other_errno"))
	l.next(t)
	want(t, ask(t, c, testplugin.Identify), int64(l.plugins["other_errno"].Status().PID), 0)
	wantApplied(t, l.giveAll(t, switched("x", "never", "trial")), "[never trial] [] [other_errno] [] [getsid]")
	l.next(t)
	want(t, ask(t, c, testplugin.Kept, 7), 0, syscall.ENODATA) // never's, which is asked first
	l.giveAll(t, switched("x", "trial", "never"))
	want(t, ask(t, c, testplugin.Kept, 7), 2, 0)
	c.Kill()
}

// The generation that no container has any more is released, and its limits do not count any more.
func TestApplyReleases(t *testing.T) {
	t.Parallel()
	b := newBench(t, named("first", "second"))
	released := make(chan struct{})
	old := b.newGeneration(named("first"))
	old.Released = func() { close(released) }
	b.SetGeneration(old)
	c := b.attach(t)
	limited := named("second")
	limited.limits = Limits{MaxInflight: 3, Rate: 1e6, Burst: 5}
	b.giveAll(t, limited)
	<-released
	if f := b.FactsByID(b.Status()[0].ID); f[0].MaxInflight != 3 {
		t.Errorf("%+v", f)
	}
	want(t, ask(t, c, testplugin.Return, 1), 1, 0)
}
