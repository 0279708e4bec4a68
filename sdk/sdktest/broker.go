package sdktest

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/target"
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
	client   wire.PluginClient
	manifest *wire.Manifest
	session  uint64
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
	s := syscallOf(n.broker.manifest, sdk.Arch(n.Arch), n.NR)
	record.Syscall = s.GetName()
	if s == nil || !wanted(s, n.Args) {
		n.finish(Outcome{Kind: Unwanted}, n.fd.SendContinue)
		return
	}
	reads := make([]*wire.Memory, len(s.GetReads()))
	for i, d := range s.GetReads() {
		reads[i] = memory(n.declaredRead(d))
	}
	if !n.valid() {
		n.record(Outcome{Kind: Gone, Err: notify.ErrGone})
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.broker.deadline)
	defer cancel()
	go n.watch(ctx, cancel)
	outcome := handle(ctx, n.broker.client, &wire.Notification{
		Id: n.ID, Session: n.broker.session, Syscall: s.GetName(), Arch: n.Arch, Nr: n.NR,
		Args: n.Args[:], Tid: int32(n.TID), Reads: reads,
	}, n)
	if outcome.Kind == Failure || outcome.Kind == Gone {
		n.finish(outcome, n.sendFailure)
	}
}

// watchInterval is how often a caller is looked after.
const watchInterval = 10 * time.Millisecond

// watch ends the context when the caller no longer waits.
func (n *notification) watch(ctx context.Context, cancel func()) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if !n.valid() {
				cancel()
				return
			}
		}
	}
}

// declaredRead copies declared memory, with the faults of plugin.proto.
func (n *notification) declaredRead(d *wire.Read) ([]byte, syscall.Errno) {
	address := n.pointer(d.GetArg())
	switch kind := d.GetKind().(type) {
	case *wire.Read_String_:
		return n.readString(address, int(kind.String_.GetMax()))
	case *wire.Read_Bytes:
		length := n.pointer(kind.Bytes.GetLengthArg())
		if length > uint64(kind.Bytes.GetMax()) {
			return nil, unix.E2BIG
		}
		return n.readMemory(address, int(length))
	default:
		return n.readMemory(address, int(d.GetStruct().GetSize()))
	}
}

// pointer is an argument as wide as the caller's registers.
func (n *notification) pointer(arg uint32) uint64 {
	if sdk.Arch(n.Arch).Is32Bit() {
		return uint64(uint32(n.Args[arg]))
	}
	return n.Args[arg]
}

func (n *notification) readMemory(address uint64, length int) ([]byte, syscall.Errno) {
	data := make([]byte, length)
	fault := target.ReadMemory(int(n.TID), address, data)
	return n.stillItsOwn(data, fault)
}

func (n *notification) readString(address uint64, max int) ([]byte, syscall.Errno) {
	return n.stillItsOwn(target.AppendString(nil, int(n.TID), address, max))
}

// stillItsOwn makes sure that what was read by thread id is of the thread that called.
func (n *notification) stillItsOwn(data []byte, fault syscall.Errno) ([]byte, syscall.Errno) {
	if !n.valid() {
		return nil, unix.ESRCH
	}
	return data, fault
}

func (n *notification) valid() bool { return n.fd.Valid(n.ID) }

// answer performs the plugin's response.
func (n *notification) answer(response *wire.Response) Outcome {
	outcome := outcomeOf(response)
	if !n.valid() {
		outcome = Outcome{Kind: Gone, Err: notify.ErrGone}
	}
	for _, w := range outcome.Writes {
		if fault := target.WriteMemory(int(n.TID), w.Address, w.Data); fault != 0 {
			outcome = Outcome{Kind: Errno, Errno: unix.EFAULT}
			break
		}
	}
	switch outcome.Kind {
	case Value:
		n.finish(outcome, func(id uint64) error { return n.fd.SendValue(id, outcome.Value) })
	case Errno:
		n.finish(outcome, func(id uint64) error { return n.fd.SendErrno(id, outcome.Errno) })
	case Continue, Next:
		n.finish(outcome, n.fd.SendContinue)
	case AddFD:
		n.addFD(outcome, int(response.GetAddFd().GetFd()))
	}
	return outcome
}

// addFD keeps a copy of the descriptor for the record.
func (n *notification) addFD(outcome Outcome, fd int) {
	outcome.File = duplicate(n.broker.t, fd)
	n.finish(outcome, func(id uint64) error {
		_, err := n.fd.SendFD(id, fd, outcome.CloseOnExec)
		return err
	})
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
