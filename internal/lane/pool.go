package lane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// MaxIdleLanes are kept for later.
	MaxIdleLanes = 16
	// sendTimeout bounds the wait for a plugin that does not receive.
	sendTimeout = time.Second
)

// Pool is the broker's end of the lanes of one plugin process. The zero Pool has none, and opens none before Accept.
type Pool struct {
	received atomic.Uint64 // messages
	closed   atomic.Bool

	mu      sync.Mutex
	control *End                  // nil: the plugin takes no lanes
	idle    []*Lane               // the last used last
	kept    map[*os.File]struct{} // ends of lanes whose calls were given up
	count   int
	last    uint64 // number
}

// MaxLanes bounds the lanes of a plugin: each is a thread of it, and a descriptor at each end. Calls beyond go by gRPC.
var MaxLanes = sync.OnceValue(func() int {
	const most = 512
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return most
	}
	return int(min(most, limit.Cur/32))
})

// Keeper is told of calls that are given up while a thread of the plugin may still be at them.
type Keeper interface {
	// Keep is called with the deadline of such a call. back is called when the plugin's thread has come back, or its
	// process is dead.
	Keep(deadline time.Time) (back func())
}

// errPanic is how a call ends that does not return.
var errPanic = errors.New("a panic")

// Lane is the broker's end of one lane, while a call has it.
type Lane struct {
	Keeper Keeper // of the call that Handle is about to carry; may be nil
	*End
	pool   *Pool
	number uint64
	cpu    int
}

// Take gives a lane of the processor cpu, or nil if there is none: the call then goes over a Stream.
func (p *Pool) Take(cpu int) *Lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, l := range slices.Backward(p.idle) {
		if l.cpu == cpu {
			p.idle = slices.Delete(p.idle, i, i+1)
			return l
		}
	}
	if p.control == nil || p.count >= MaxLanes() {
		return nil
	}
	l, err := p.open(cpu)
	if err != nil {
		return nil // gRPC will say what is wrong with the plugin
	}
	return l
}

// open makes a lane and gives the plugin its end.
func (p *Pool) open(cpu int) (*Lane, error) {
	ours, theirs, err := Pair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	p.last++
	l := &Lane{End: New(ours), pool: p, number: p.last, cpu: cpu}
	if err := l.SetTimeouts(goneInterval, sendTimeout); err != nil {
		l.Close()
		return nil, err
	}
	if err := p.say(&wire.LaneControl{Control: &wire.LaneControl_Open{Open: &wire.OpenLane{Number: l.number, Cpu: int32(cpu)}}}, theirs); err != nil {
		l.Close()
		return nil, err
	}
	p.count++
	return l, nil
}

// Busy returns how many lanes have calls, those that were given up included.
func (p *Pool) Busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count - len(p.idle)
}

// Received returns how many messages have come from the plugin.
func (p *Pool) Received() uint64 { return p.received.Load() }

// put gives a lane back whose call is over. Of too many the one goes that was not used for longest.
func (l *Lane) put() {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, l)
	if len(p.idle) > MaxIdleLanes || p.control == nil {
		p.idle[0].Close()
		p.idle = slices.Delete(p.idle, 0, 1)
		p.count--
	}
}

// abandon gives up a lane whose call is not over, and tells the plugin so. The lane counts until the plugin has closed its
// end, as its thread does when it comes back.
func (l *Lane) abandon(deadline time.Time, dead bool) {
	l.pool.cancel(l.number)
	l.socket.Shutdown(unix.SHUT_WR) // the thread is not answered any more
	end, err := l.takeEnd()
	if err != nil || dead || l.Keeper == nil {
		end.Close()
		l.pool.forget()
		return
	}
	back := l.Keeper.Keep(deadline)
	l.pool.keep(end)
	go func() {
		io.Copy(io.Discard, end)
		l.pool.unkeep(end)
		back()
	}()
}

// takeEnd takes the socket from the lane, which is closed, so that waiting for the other end needs no thread.
func (l *Lane) takeEnd() (*os.File, error) {
	defer l.Close()
	fd, err := unix.FcntlInt(uintptr(l.socket.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "lane"), nil
}

// keep has Close close the end of a lane that was given up.
func (p *Pool) keep(end *os.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		end.Close()
	}
	if p.kept == nil {
		p.kept = map[*os.File]struct{}{}
	}
	p.kept[end] = struct{}{}
}

// unkeep counts out a lane that was given up.
func (p *Pool) unkeep(end *os.File) {
	end.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.kept, end)
	p.count--
}

// forget counts a lane out.
func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count--
}

// cancel tells the plugin that nobody waits for what the lane has.
func (p *Pool) cancel(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.control != nil {
		p.say(&wire.LaneControl{Control: &wire.LaneControl_Cancel{Cancel: number}}, -1)
	}
}

// say tells the plugin something. One that does not listen gets no more lanes.
func (p *Pool) say(message *wire.LaneControl, fd int) error {
	err := p.control.Send(message, fd)
	if err != nil {
		p.control.Close()
		p.control = nil
	}
	return err
}

// Accept says that the plugin takes lanes, which are opened on this socket.
func (p *Pool) Accept(control *End) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.control = control
	return control.SetTimeouts(0, sendTimeout)
}

// Close ends the lanes that no call has, and those whose calls were given up, and opens no more. The calls on the others
// fail with ErrDied. The plugin's process is dead, but if a thread of it hangs in the kernel, all of its sockets stay open.
func (p *Pool) Close() {
	p.closed.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.idle {
		l.Close()
	}
	p.count -= len(p.idle)
	p.idle = nil
	for end := range p.kept {
		end.Close()
	}
	if p.control != nil {
		p.control.Close()
		p.control = nil
	}
}

// Handle carries one notification over the lane, which it gives back: the plugin's response, with the descriptor that
// an ADDFD response carries. The thread waits for the plugin, and looks now and then whether that is of any use. The
// error wraps ErrDied, ErrGone, context.DeadlineExceeded or ctx's cause, or says how the plugin failed.
func (l *Lane) Handle(ctx context.Context, d *Dialogue, caller Caller, deadline time.Time) (*wire.Response, *Descriptor, error) {
	err := errPanic
	defer func() {
		if err != nil {
			l.abandon(deadline, errors.Is(err, ErrDied))
		}
	}()
	answer, added, err := l.converse(ctx, d, caller, deadline)
	if err != nil {
		return nil, nil, err
	}
	l.put()
	switch {
	case answer.GetFailure().GetGone():
		return nil, nil, ErrGone
	case answer.GetFailure() != nil:
		return nil, nil, errors.New(Bound(answer.GetFailure().GetText()))
	}
	return answer.GetResponse(), added, nil
}

// converse sends the notification, answers questions, and returns the plugin's last message. After an error the plugin
// may still be at it.
func (l *Lane) converse(ctx context.Context, d *Dialogue, caller Caller, deadline time.Time) (*wire.PluginMessage, *Descriptor, error) {
	n := &d.Notification
	n.TimeoutNs = uint64(max(time.Until(deadline), 0))
	next := d.opening()
	for {
		if err := l.Send(next, -1); err != nil {
			return nil, nil, laneError(err)
		}
		message := d.blank()
		fd, err := l.await(ctx, message, caller, deadline)
		if err != nil {
			return nil, nil, err
		}
		if message.GetId() != n.GetId() {
			linux.CloseAll(fd)
			return nil, nil, errors.New("the plugin answered another notification than it has, or twice")
		}
		if message.GetResponse() != nil && message.GetResponse().GetKind() == nil {
			linux.CloseAll(fd)
			return nil, nil, errors.New("the plugin sent an unknown message, or an empty answer")
		}
		if message.GetResponse() != nil || message.GetFailure() != nil {
			added, err := takeAdded(message.GetResponse(), fd)
			return message, added, err
		}
		linux.CloseAll(fd)
		if next, err = reply(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// await receives the plugin's next message.
func (l *Lane) await(ctx context.Context, message *wire.PluginMessage, caller Caller, deadline time.Time) (int, error) {
	for {
		fd, err := l.Receive(message)
		switch {
		case err == nil:
			l.pool.received.Add(1)
			return fd, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return -1, laneError(err)
		case l.pool.closed.Load():
			return -1, ErrDied
		case ctx.Err() != nil:
			return -1, context.Cause(ctx)
		case time.Now().After(deadline): // before Valid: somebody else may have answered the caller by then
			return -1, context.DeadlineExceeded
		case !caller.Valid():
			return -1, ErrGone
		}
	}
}

// laneError makes one of this package's errors of a lane's.
func laneError(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w, or has closed its lane", ErrDied)
	}
	return err
}

// takeAdded makes sure that the descriptor is there with the one response that has it, and only with that.
func takeAdded(response *wire.Response, fd int) (*Descriptor, error) {
	if wanted := response.GetAddFd() != nil; wanted != (fd >= 0) {
		linux.CloseAll(fd)
		return nil, errors.New("the plugin sent a descriptor without an answer that needs it, or such an answer without one")
	}
	if fd < 0 {
		return nil, nil
	}
	return &Descriptor{fd}, nil
}
