package broker

import (
	"syscall"
	"testing"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// faulty panics when it is asked for validity after so many times.
type faulty struct {
	notify.FD
	left int
}

func (f *faulty) Valid(id uint64) bool {
	if f.left--; f.left < 0 {
		panic("ouch")
	}
	return f.FD.Valid(id)
}

// TestPanicInCall has the broker panic before and while a plugin has a call: that call gets the plugin's verdict, and
// the next one is served.
func TestPanicInCall(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	r := startRelayed(t)
	page := uint64(0)
	for i, left := range []int{0, 1} {
		result := r.Go(unix.SYS_GETPPID, op(testplugin.Read, page)...)
		x := r.receive(t)
		x.Answers = &faulty{r.FD, left}
		if err := b.serve(t, r, x); err != nil {
			t.Error(err)
		}
		want(t, testcaller.Await(t, result), 0, syscall.EIO)
		b.log.await(t, i+1, `"level":"error"`, "panic", "ouch", "panic_test.go", `"syscall":"getppid"`)
		result = r.Go(unix.SYS_GETPPID, op(testplugin.Return, 77)...)
		if err := b.serve(t, r, r.receive(t)); err != nil {
			t.Error(err)
		}
		want(t, testcaller.Await(t, result), 77, 0)
	}
}

// TestPanicInObserver has what observes records panic: the call is answered by then.
func TestPanicInObserver(t *testing.T) {
	t.Parallel()
	b := newBench(t, options{plugins: []string{"trial_errno"}})
	b.Observe(func(audit.Record) { panic("ouch") })
	c, other := b.attach(t), b.attach(t)
	for i := range int64(3 * maxPanics) {
		want(t, ask(t, c, testplugin.Return, uint64(i)), i, 0)
		want(t, ask(t, other, testplugin.Return, uint64(i)), i, 0)
	}
	b.log.await(t, 1, "panic", "ouch")
	b.checkCrew(t, 2)
}
