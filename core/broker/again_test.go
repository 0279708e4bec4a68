package broker

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// attachInterruptible is attach with a filter that signals take callers out of their calls of.
func (b *bench) attachInterruptible(t testing.TB) *testcaller.Caller {
	t.Helper()
	c := testcaller.Start(t, 0)
	c.Interruptible = true
	b.attachCaller(t, c, fmt.Sprintf("c%d", lastContainer.Add(1)))
	return c
}

// again is what the broker knows of the one container's calls.
func (b *bench) again(t testing.TB) (calls, kept, descriptors int) {
	t.Helper()
	a := &b.attachmentsOf(func(string) bool { return true })[0].again
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.kept {
		if k.added != nil {
			descriptors++
		}
	}
	return len(a.calls), len(a.kept), descriptors
}

func (b *bench) awaitKept(t testing.TB, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d answers are kept", n), func() bool {
		calls, kept, _ := b.again(t)
		return kept == n && calls == 0
	})
}

// TestInterruptedAtWork has signals come while the plugin is at work: it has the call once, and its answer is that of
// the call that was restarted last.
func TestInterruptedAtWork(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	result := begin(c, testplugin.Hold, 7)
	h := b.gate.next(t)
	for i := range 3 {
		c.Interrupt(t, unix.SYS_GETPPID)
		b.log.await(t, i+1, `"outcome":"again"`)
	}
	h.open()
	want(t, testcaller.Await(t, result), 7, 0)
	b.checkIdle(t, 0)
}

// checkIdle makes sure that nothing is left, and that no further call came to the gate.
func (b *bench) checkIdle(t testing.TB, kept int) {
	t.Helper()
	b.awaitKept(t, kept)
	if n := len(b.gate.arrived); n > 0 {
		t.Errorf("%d more calls came to the plugin", n)
	}
}

// TestInterruptedAnswer has answers find nobody, since the caller is stopped: it gets them when it goes on, whenever
// that is, and they are no other call's.
func TestInterruptedAnswer(t *testing.T) {
	t.Parallel()
	for name, stopped := range map[string]time.Duration{"for a moment": 0, "for longer than answers are kept": againTime + againTime/2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, options{})
			c := b.attachInterruptible(t)
			first, second := begin(c, testplugin.Hold, 1), begin(c, testplugin.Hold, 2)
			one, two := b.gate.next(t), b.gate.next(t)
			c.Stop(t)
			one.open()
			two.open()
			b.awaitKept(t, 2)
			time.Sleep(stopped)
			c.Continue(t)
			want(t, testcaller.Await(t, first), 1, 0)
			want(t, testcaller.Await(t, second), 2, 0)
			b.checkIdle(t, 0)
		})
	}
}

// inUse is how many descriptors are counted for containers.
func (d *descriptors) inUse() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// TestInterruptedDescriptor has an answer with a descriptor find nobody.
func TestInterruptedDescriptor(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	used := b.descriptors.inUse()
	result := begin(c, testplugin.AddFD, 0, 0, 1)
	h := b.gate.next(t)
	c.Stop(t)
	h.open()
	b.awaitKept(t, 1)
	if _, _, descriptors := b.again(t); descriptors != 1 || b.descriptors.inUse() != used+1 {
		t.Errorf("%d descriptors are kept, and %d more are counted", descriptors, b.descriptors.inUse()-used)
	}
	c.Continue(t)
	got := testcaller.Await(t, result)
	if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", c.PID, got.Value)); got.Errno != 0 || err != nil {
		t.Errorf("the caller got %+v, which is %q: %v", got, link, err)
	}
	b.awaitKept(t, 0)
	if b.descriptors.inUse() != used {
		t.Errorf("%d descriptors more are counted", b.descriptors.inUse()-used)
	}
}

// TestInterruptedWrite has result memory be written when the caller is back.
func TestInterruptedWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	page := c.Map(t).Page
	result := begin(c, testplugin.Write, page, 3, 1)
	h := b.gate.next(t)
	c.Stop(t)
	h.open()
	b.awaitKept(t, 1)
	c.Continue(t)
	want(t, testcaller.Await(t, result), 7, 0)
	if c.Peek(t, page+2) != 0x5a || c.Peek(t, page+3) != 0 {
		t.Error("the memory is not as it should be")
	}
	b.checkIdle(t, 0)
}

// TestInterruptedAtWrite has signals come while the answer is given: whichever notification of the call is answered,
// its caller's memory is written.
func TestInterruptedAtWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	page := c.Map(t).Page
	for range 1000 {
		result := begin(c, testplugin.Write, page, 3, 1)
		h := b.gate.next(t)
		tids := c.InCall(t, unix.SYS_GETPPID)
		go h.open()
		for range 3 {
			for _, tid := range tids {
				unix.Tgkill(c.PID, tid, unix.SIGURG)
			}
		}
		for answered := false; !answered; {
			select {
			case got := <-result:
				want(t, got, 7, 0)
				answered = true
			case h := <-b.gate.arrived: // the answer was lost: see doubt.go
				h.open()
			case <-time.After(testcaller.Timeout):
				t.Fatal("the call does not return")
			}
		}
		if c.Peek(t, page) != 0x5a || c.Peek(t, page+2) != 0x5a {
			t.Fatal("the call has returned, and the memory is not written")
		}
		c.Poke(t, page, 0, 3)
	}
	b.checkIdle(t, 0)
}

// TestInterruptedQuestion has the plugin ask about a caller that is out of its call: it gets the answer when that has
// made the call again.
func TestInterruptedQuestion(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	page := c.Map(t).Page
	c.Poke(t, page, 9, 1)
	result := begin(c, testplugin.Read, page, 0, 1)
	h := b.gate.next(t)
	c.Stop(t)
	h.open()
	a := &b.attachmentsOf(func(string) bool { return true })[0].again
	eventually(t, "the plugin has asked, and the caller is waited for", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.calls) == 1 && a.calls[0].call.followed != nil
	})
	c.Continue(t)
	want(t, testcaller.Await(t, result), 9, 0)
	b.checkIdle(t, 0)
}

// keepOn has the one answer that is kept not be dropped while the test runs, however slow the machine is. Nobody looks
// at it then, so that the test may change it.
func (b *bench) keepOn(t testing.TB) {
	t.Helper()
	a := &b.attachmentsOf(func(string) bool { return true })[0].again
	eventually(t, "the thread of the one answer that is kept has been looked at", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.looking || len(a.kept) != 1 || !a.kept[0].looked {
			return false
		}
		a.kept[0].until = time.Now().Add(time.Hour)
		return true
	})
}

// TestOtherMemory has the caller's memory be another when it makes the call again: that is another call.
func TestOtherMemory(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	page := c.Map(t).Page
	c.Poke(t, page, 'a', 3)
	// A call of which the plugin makes nothing but an answer is over too soon to be stopped in it.
	plugin := b.stopPlugin(t, "trial")
	result := c.Go(unix.SYS_CHDIR, page)
	eventually(t, "the plugin has the call", func() bool { calls, _, _ := b.again(t); return calls == 1 })
	c.Stop(t)
	unix.Kill(plugin, unix.SIGCONT) // fails if the launcher has replaced the process, which was stopped for long
	b.awaitKept(t, 1)
	b.keepOn(t)
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.PID), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	if _, err := memory.WriteAt([]byte("aaaaa"), int64(page)); err != nil {
		t.Fatal(err)
	}
	c.Continue(t)
	want(t, testcaller.Await(t, result), 5, 0)
	b.awaitKept(t, 1)
}

// TestKilledKeepsNothing has a caller be killed: the plugin's context ends, and no answer is kept.
func TestKilledKeepsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	begin(c, testplugin.Hold, 7)
	h := b.gate.next(t)
	c.Kill()
	if line := h.line(t); line != "context" {
		t.Errorf("the plugin says %q", line)
	}
}

// TestKeptIsBounded has answers be kept, and dropped: too many, and after their time.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	used := b.descriptors.inUse()
	const calls = maxKeptAnswers + 3
	var held []*held
	for i := range calls {
		begin(c, testplugin.AddFD, 0, 0, 1, uint64(i))
		held = append(held, b.gate.next(t))
	}
	c.Stop(t)
	for _, h := range held {
		h.open()
	}
	b.awaitKept(t, maxKeptAnswers)
	// Those of the answers that are dropped are counted out after that.
	eventually(t, "the kept answers' descriptors are counted", func() bool { return b.descriptors.inUse()-used == maxKeptAnswers })
	c.Kill() // a stopped thread's answers would stay
	eventually(t, "all are dropped", func() bool { return len(b.attachmentsOf(func(string) bool { return true })) == 0 })
	b.ending.Wait()
	if now := b.descriptors.inUse(); now > used {
		t.Errorf("%d descriptors are counted, before %d", now, used)
	}
}

// TestKeptForATime has an answer to a call that does not come again be dropped.
func TestKeptForATime(t *testing.T) {
	t.Parallel()
	var a again
	dropped := make(chan struct{})
	a.init(func() { close(dropped) })
	k := &keptAnswer{call: identity{tid: uint32(os.Getpid()), nr: -1}, response: continueResponse, until: time.Now().Add(time.Millisecond)}
	a.append(k)
	<-dropped
	if got := a.expire(k.until); len(got) != 1 || len(a.kept) != 0 || a.bytes != 0 || a.expiry != nil {
		t.Errorf("%d are dropped, %d of %d bytes are left", len(got), len(a.kept), a.bytes)
	}
}

// TestKeptForThreadThatRuns has the thread of a kept answer have run since it was looked at: that may have been just
// now, and the answer is kept for once more the time.
func TestKeptForThreadThatRuns(t *testing.T) {
	t.Parallel()
	var a again
	a.init(func() {})
	now := time.Now()
	k := &keptAnswer{call: identity{tid: uint32(os.Getpid()), nr: -1, received: now}, response: continueResponse, until: now, waits: true}
	a.append(k)
	if got := a.expire(now); len(got) != 0 || !k.until.Equal(now.Add(againTime)) {
		t.Errorf("%d are dropped, and the other is kept for %v", len(got), k.until.Sub(now))
	}
	if got := a.expire(k.until); len(got) != 1 {
		t.Errorf("then %d are dropped", len(got))
	}
}

// TestOtherThread has the caller's thread be one that had another id when the answer was found.
func TestOtherThread(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attachInterruptible(t)
	result := begin(c, testplugin.Hold, 7)
	h := b.gate.next(t)
	c.Stop(t)
	h.open()
	b.awaitKept(t, 1)
	b.keepOn(t)
	a := &b.attachmentsOf(func(string) bool { return true })[0].again
	a.mu.Lock()
	a.kept[0].call.received = time.Now().Add(-time.Hour)
	a.mu.Unlock()
	c.Continue(t)
	b.gate.next(t).open()
	want(t, testcaller.Await(t, result), 7, 0)
	b.awaitKept(t, 1)
}

// TestDoubt has the answer to the call before be doubtful: it is what the caller gets if its call fails now.
func TestDoubt(t *testing.T) {
	t.Parallel()
	before, now := &wire.Response{Kind: &wire.Response_Value{Value: 1}}, &wire.Response{Kind: &wire.Response_Value{Value: 2}}
	refused := errnoResponse(int32(unix.EEXIST))
	for name, test := range map[string]struct {
		doubt *wire.Response
		d     decision
		want  *wire.Response
	}{
		"no doubt":       {nil, decision{response: refused}, refused},
		"it fails":       {before, decision{response: refused}, before},
		"it succeeds":    {before, decision{response: now}, now},
		"the kernel's":   {before, decision{response: continueResponse}, continueResponse},
		"a plugin fails": {before, decision{response: refused, err: errHang}, refused},
		"nobody waits":   {before, decision{gone: true}, nil},
	} {
		if got := (&call{doubt: test.doubt}).settleDoubt(test.d); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestFilesOnFUSE has a captured file on a filesystem that shows nothing to who is not its user: the call fails, with a
// reason that names the file.
func TestFilesOnFUSE(t *testing.T) {
	t.Parallel()
	sdktest.RequireRoot(t)
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		sdktest.Lacking(t, "needs /dev/fuse: %v", err)
	}
	defer device.Close()
	mount, err := linux.NewMount("fuse", map[string]string{
		"fd": strconv.Itoa(int(device.Fd())), "rootmode": "40000", "user_id": "1000", "group_id": "1000",
	}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mount.Close()
	for part, want := range map[capture.Part]string{
		capture.PartRoot: "root", capture.PartWorkingDirectory: "working directory", capture.PartDescriptor: "descriptor",
	} {
		set := &capture.Set{Descriptors: []int{int(mount.Fd())}}
		set.Handles = []*capture.Handle{{Part: part, HasDescriptor: true}}
		_, err := appendFiles(nil, set)
		reason := failureReason(err)
		if reason.Code != codeCallerUnknown || !strings.Contains(reason.Text, "the caller's "+want+" is on a FUSE") {
			t.Errorf("%v: %+v", part, reason)
		}
	}
}
