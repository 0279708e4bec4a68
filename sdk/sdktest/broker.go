package sdktest

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Record is one call of a program in a container.
type Record struct {
	Syscall string
	Arch    sdk.Arch
	Args    [6]uint64
	TID     int // in this process's pid namespace
	Outcome Outcome
}

// recorder keeps the calls of a program.
type recorder struct {
	mu      sync.Mutex
	records []Record
}

func (r *recorder) add(record Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, record)
}

func (r *recorder) all() []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Record(nil), r.records...)
}

// broker answers notifications by a plugin's session.
type broker struct {
	t        testing.TB
	plugin   *plugin
	manifest *wire.Manifest // as far as the settings switch it on
	session  atomic.Uint64
	kept     *wire.Store
	attach   func() (session uint64, err error) // as another process would be
	deadline time.Duration
}

// serve answers a listener's notifications, each on a goroutine of its own, until its last caller is gone.
func (b *broker) serve(ctx context.Context, listener int, r *recorder) {
	var running sync.WaitGroup
	defer running.Wait()
	fd := notify.FD(listener)
	for {
		pending, hangup, err := fd.Poll(-1)
		if err != nil {
			b.t.Errorf("sdktest: %v", err)
			return
		}
		if !pending {
			if hangup {
				return
			}
			continue
		}
		n := &notification{broker: b, fd: fd}
		err = fd.Receive(&n.Notification)
		if errors.Is(err, notify.ErrGone) {
			continue
		}
		if err != nil {
			b.t.Errorf("sdktest: %v", err)
			return
		}
		running.Go(func() { n.serve(ctx, r) })
	}
}

// notification is one call that waits.
type notification struct {
	notify.Notification
	broker *broker
	fd     notify.FD
	record func(Outcome)
}

// serve answers the notification and records how, before the caller goes on.
func (n *notification) serve(ctx context.Context, r *recorder) {
	record := Record{Arch: sdk.Arch(n.Arch), Args: n.Args, TID: int(n.TID)}
	n.record = func(o Outcome) {
		record.Outcome = o
		r.add(record)
	}
	s := syscallOf(n.broker.manifest, sdk.Arch(n.Arch), n.NR, n.Args[0])
	record.Syscall = s.GetName()
	if s.GetCompat() == wire.Compat_COMPAT_REFUSE && !wire.IsNative(n.Arch, n.NR) {
		n.finish(Outcome{Kind: Errno, Errno: unix.EPERM}, func(id uint64) error { return n.fd.SendErrno(id, unix.EPERM) })
		return
	}
	d := &lane.Dialogue{}
	d.Notification.Id, d.Notification.Session, d.Notification.Syscall = n.ID, n.broker.session.Load(), s.GetName()
	d.Notification.Tid, d.Notification.Arch, d.Notification.Nr, d.Notification.Args = int32(n.TID), n.Arch, n.NR, n.Args[:]
	d.Notification.Reads = new(wire.Snapshot).Take(int(n.TID), s.GetReads(), n.Arch, &n.Args)
	lane.CaptureDeclared(&d.Captured, int(n.TID), s.GetCaptures(), &n.Args)
	defer d.Captured.Close()
	if !n.Valid() { // what was captured may be another's
		n.record(Outcome{Kind: Gone, Err: notify.ErrGone})
		return
	}
	d.Notification.ReceivedNs = linux.CoarseNow()
	response, added, err := n.handle(ctx, d, s)
	if err != nil {
		n.finish(failed(err), n.sendFailure)
		return
	}
	n.answer(outcomeOf(n.broker.t, n.broker.manifest, response, added))
}

// againEnv, set to "1", has each call of a container handled twice that may be repeated: as if the plugin died with the
// first answer.
const againEnv = "INTERCEDE_TEST_AGAIN"

// handle has the plugin handle the notification.
func (n *notification) handle(ctx context.Context, d *lane.Dialogue, s *wire.Syscall) (*wire.Response, *lane.Descriptor, error) {
	b := n.broker
	if os.Getenv(againEnv) != "1" || s.GetRepeat() == wire.Repeat_REPEAT_NEVER {
		return b.plugin.handle(ctx, d, n, b.deadline)
	}
	d.Notification.ReceivedNs = awaitTick()
	_, added, err := b.plugin.handle(ctx, d, n, b.deadline)
	if added != nil {
		added.Close()
	}
	if err != nil {
		return nil, nil, err
	}
	if _, err := b.plugin.rpc.Detach(ctx, &wire.DetachRequest{Session: d.Notification.Session}); err != nil {
		return nil, nil, err
	}
	session, err := b.attach()
	if err != nil {
		return nil, nil, err
	}
	b.session.Store(session)
	d.Notification.Session, d.Notification.Again = session, true
	return b.plugin.handle(ctx, d, n, b.deadline)
}

// awaitTick waits until the clock by which the kernel stamps inodes has passed what is now, and returns its time: what
// was done for the calls before has other times than what is done for this one.
func awaitTick() uint64 {
	before, now := uint64(time.Now().UnixNano()), linux.CoarseNow()
	for ; now <= before; now = linux.CoarseNow() {
		time.Sleep(time.Millisecond)
	}
	return now
}

// Valid implements lane.Caller.
func (n *notification) Valid() bool { return n.fd.Valid(n.ID) }

// Capture implements lane.Caller.
func (n *notification) Capture(question *wire.Capture) *capture.Set {
	return captureOf(int(n.TID), question, n.Valid)
}

// captureOf captures what is asked for of the thread, if that is valid then.
func captureOf(tid int, question *wire.Capture, valid func() bool) *capture.Set {
	set := &capture.Set{}
	lane.Capture(set, tid, question)
	if !valid() {
		set.Close()
		set.Errno = int32(unix.ESRCH)
	}
	return set
}

// ReadMemory implements lane.Caller.
func (n *notification) ReadMemory(question *wire.ReadMemory) *wire.Memory {
	copied := wire.Ask(int(n.TID), question)
	if !n.Valid() {
		return memory(nil, unix.ESRCH)
	}
	return copied
}

// Keep implements lane.Caller.
func (n *notification) Keep(question *wire.Keep) *wire.Kept { return n.broker.kept.Keep(question) }

// answer performs the plugin's response.
func (n *notification) answer(outcome Outcome) {
	if !n.Valid() {
		n.record(Outcome{Kind: Gone, Err: notify.ErrGone})
		return
	}
	var writes []*wire.Write
	for _, w := range outcome.Writes {
		writes = append(writes, &wire.Write{Address: w.Address, Data: w.Data})
	}
	if fault := capture.WriteBack(int(n.TID), writes, n); fault == unix.EFAULT {
		outcome = Outcome{Kind: Errno, Errno: unix.EFAULT}
	}
	switch outcome.Kind {
	case Value:
		n.finish(outcome, func(id uint64) error { return n.fd.SendValue(id, outcome.Value) })
	case Errno:
		n.finish(outcome, func(id uint64) error { return n.fd.SendErrno(id, outcome.Errno) })
	case Continue, Next:
		n.finish(outcome, n.fd.SendContinue)
	case AddFD:
		fd := int(outcome.File.Fd()) // a test that sees the record may close the file when its program has ended
		n.finish(outcome, func(id uint64) error {
			_, err := n.fd.SendFD(id, fd, outcome.CloseOnExec)
			return err
		})
	default:
		n.finish(outcome, n.sendFailure)
	}
}

// sendFailure answers with the manifest's verdict.
func (n *notification) sendFailure(id uint64) error {
	if errno := n.broker.manifest.GetOnFailure().GetErrno(); errno != 0 {
		return n.fd.SendErrno(id, syscall.Errno(errno))
	}
	return n.fd.SendContinue(id)
}

// finish records the outcome, then sends the answer: a program that has ended has all its calls on record.
func (n *notification) finish(outcome Outcome, answer func(id uint64) error) {
	n.record(outcome)
	if err := answer(n.ID); err != nil && !errors.Is(err, notify.ErrGone) {
		n.broker.t.Errorf("sdktest: %v", err)
	}
}
