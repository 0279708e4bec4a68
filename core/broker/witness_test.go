package broker

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/auditsink"
	"github.com/intercede/intercede/core/event"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/core/trace"
	"golang.org/x/sys/unix"
)

// audited is a bench with one plugin and an audit file, of which events reads what there is.
func audited(t *testing.T, plugin string, rate int) (b *bench, events func() []event.Event) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	sink, err := auditsink.Open(config.Audit{Sink: config.AuditFile, Path: path, Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	b = newBench(t, options{plugins: []string{plugin}, audit: sink})
	return b, func() (list []event.Event) {
		t.Helper()
		b.close() // all calls have been recorded
		sink.Close()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var e event.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
		return list
	}
}

func TestAudited(t *testing.T) {
	t.Parallel()
	b, events := audited(t, "mknod_errno", 10) // which has CAP_MKNOD
	c := b.attach(t)
	id := b.Status()[0].ID
	ask(t, c, testplugin.Return, 42)  // performed
	ask(t, c, testplugin.Continue)    // nothing was done, and nothing refused
	ask(t, c, testplugin.Next)        // likewise
	ask(t, c, testplugin.Explain, 2)  // refused
	ask(t, c, testplugin.Error)       // failed
	c.Call(t, unix.SYS_GETPPID)       // not the plugin's
	ask(t, c, testplugin.Errno, 4000) // without a reason
	got := events()
	if len(got) != 3 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	// Each is written after the answer to its call: that of a later call may have been written before it.
	slices.SortFunc(got, func(x, y event.Event) int { return cmp.Compare(x.NotifID, y.NotifID) })
	performed, refused, failed := got[0], got[1], got[2]
	if performed.Plugin != "mknod_errno" || performed.Outcome != audit.Return || *performed.Value != 42 {
		t.Errorf("performed: %+v", performed)
	}
	if refused.Plugin != "mknod_errno" || refused.Outcome != audit.Continue || refused.Reason != "trial" || refused.Because != `\n\n` {
		t.Errorf("refused: %+v", refused)
	}
	if failed.Reason != codeFailed || failed.Errno != "EIO" || failed.Error != "it did not work" {
		t.Errorf("failed: %+v", failed)
	}
	for _, e := range got {
		if e.Schema != event.Schema || e.Container != id || e.Syscall != "getppid" || e.PID != int32(c.PID) || e.ContainerPID != 1 ||
			e.Comm != "exe" || e.UID == nil || e.ContainerUID == nil || *e.ContainerUID != 0 || e.Milliseconds <= 0 {
			t.Errorf("the caller: %+v", e)
		}
	}
}

// TestAuditNeedsPrivilege has a plugin without capabilities, which performs nothing with privilege.
func TestAuditNeedsPrivilege(t *testing.T) {
	t.Parallel()
	b, events := audited(t, "trial", 10)
	ask(t, b.attach(t), testplugin.Return, 42)
	if got := events(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestAuditIsSampled has a container call more often than its events are written: what is missing is counted.
func TestAuditIsSampled(t *testing.T) {
	t.Parallel()
	const rate, calls = 2, 100
	b, events := audited(t, "mknod", rate)
	c := b.attach(t)
	for range calls {
		ask(t, c, testplugin.Return, 42)
	}
	time.Sleep(time.Second) // the sampling's period
	ask(t, c, testplugin.Return, 42)
	got := events()
	written, suppressed := len(got), 0
	for _, e := range got {
		suppressed += e.Suppressed
	}
	if written+suppressed != calls+1 || written > calls/2 {
		t.Errorf("%d events written, %d suppressed, of %d calls", written, suppressed, calls+1)
	}
}

func TestTraced(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{})
	c := b.attach(t)
	ask(t, c, testplugin.Return, 1) // before
	id := b.Status()[0].ID
	w, err := b.Watch(trace.Filter{Container: id})
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Watch(trace.Filter{Container: "x"})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, testplugin.Explain, 0)
	timeout := time.After(testcaller.Timeout)
	for shown := false; !shown; {
		select {
		case call := <-w.Calls: // or of the call before, whose record comes after its answer
			e := event.Of(call.Record, call.At)
			if shown = e.Reason == "trial"; shown && (e.Comm == "" || e.Plugin != "trial" || e.Container != id) {
				t.Errorf("%+v", e)
			}
		case <-timeout:
			t.Fatal("the call is not shown")
		}
	}
	w.Close()
	if len(other.Calls) != 0 {
		t.Error("a call that is not wanted is shown")
	}
	other.Close()
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	c := b.attach(t)
	a := b.attachmentsOf(func(string) bool { return true })[0]
	var got []Refusal
	for range 3 {
		ask(t, c, testplugin.Explain, 0)
	}
	eventually(t, "the first three are counted", func() bool { // each is after its answer
		got = a.listRefusals()
		return len(got) == 1 && got[0].Calls == 3
	})
	ask(t, c, testplugin.Error)
	ask(t, c, testplugin.Return, 1)
	ask(t, c, testplugin.Next)
	eventually(t, "the refusals are listed", func() bool {
		got = a.listRefusals()
		return len(got) == 2
	})
	if got[0].Example.Reason != codeFailed || got[0].Help == "" || got[1].Example.Reason != "trial" || got[1].Calls != 3 ||
		!strings.HasPrefix(got[1].Help, "A test asked for it") {
		t.Errorf("%+v", got)
	}
}

// TestRefusalsAreBounded counts kinds beyond the limit: those that came last are kept.
func TestRefusalsAreBounded(t *testing.T) {
	var r refusals
	now := time.Now()
	for i := range 2 * maxRefusals {
		reason := &audit.Reason{Code: string(rune('a' + i))}
		if !r.count(reason, now) || r.count(reason, now) {
			t.Error("the first call of a kind alone is looked at")
		}
		r.show(event.Event{Schema: event.Schema, Reason: reason.Code})
	}
	list := r.all(func(string, string) string { return "" })
	if len(list) != maxRefusals || list[0].Example.Reason != string(rune('a'+2*maxRefusals-1)) || list[0].Calls != 2 {
		t.Errorf("%d: %+v", len(list), list[0])
	}
	if !r.count(&audit.Reason{Code: list[0].Example.Reason}, now.Add(refusalInterval)) {
		t.Error("a later call is not looked at")
	}
}
