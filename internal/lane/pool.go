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

	"github.com/intercede/intercede/internal/capture"
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
	PID int // of the process
	// Late is called now and then for each call that the plugin does not answer; may be nil.
	Late func()

	received atomic.Uint64 // messages
	sent     sent
	closed   atomic.Bool

	mu       sync.Mutex
	control  *End                  // nil: there is none, or the plugin does not listen to it
	accepted bool                  // the plugin takes lanes
	idle     []*Lane               // the last used last
	kept     map[*os.File]struct{} // ends of lanes whose calls were given up
	count    int
	last     uint64         // number of a lane, or of a message with descriptors
	moved    map[int]uint64 // by processors: lanes up to this number may be served elsewhere
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

// errDeaf means that the plugin has not received what was sent to it on the socket of the lanes.
var errDeaf = errors.New("the plugin does not receive descriptors, see LaneControl in plugin.proto")

// errPanic is how a call ends that does not return.
var errPanic = errors.New("a panic")

// Lane is the broker's end of one lane, while a call has it.
type Lane struct {
	Keeper Keeper // of the call that Handle is about to carry; may be nil
	*End
	pool   *Pool
	number uint64
	cpu    int
	waits  int  // how often its plugin was waited for in vain: see beLate
	moved  bool // its thread may be served elsewhere
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
	if !p.accepted || p.control == nil || p.count >= MaxLanes() {
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
	if l.number <= p.moved[l.cpu] {
		l.Close()
		p.count--
		return
	}
	p.idle = append(p.idle, l)
	if len(p.idle) > MaxIdleLanes || p.control == nil {
		p.idle[0].Close()
		p.idle = slices.Delete(p.idle, 0, 1)
		p.count--
	}
}

// beLate lets the plugin's thread run on any processor, if it does not get the one that the lane is of. The plugin is
// not asked to do it, since the thread that would may wait for that processor too. Of the lanes of that processor
// nobody knows then whether they are still served there: they are not used again.
func (l *Lane) beLate() {
	p := l.pool
	if p.Late != nil {
		p.Late()
	}
	if l.moved {
		return
	}
	// Looking takes the longer the more threads the plugin has: once, and again after twice the time.
	if l.waits++; l.waits&(l.waits-1) != 0 || !linux.MoveThreadsAway(p.PID, l.cpu) {
		return
	}
	l.moved = true
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved == nil {
		p.moved = map[int]uint64{}
	}
	p.moved[l.cpu] = p.last
	p.idle = slices.DeleteFunc(p.idle, func(idle *Lane) bool {
		if idle.cpu != l.cpu {
			return false
		}
		idle.Close()
		p.count--
		return true
	})
}

// abandon gives up a lane whose call is not over, and tells the plugin so. The lane counts until the plugin has
// closed its end, as its thread does when it comes back.
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
		p.say(&wire.LaneControl{Control: &wire.LaneControl_Cancel{Cancel: number}})
	}
}

// say tells the plugin something. One that does not listen gets no more lanes.
func (p *Pool) say(message *wire.LaneControl, fds ...int) error {
	err := p.control.Send(message, fds...)
	if err != nil {
		p.control.Close()
		p.control = nil
	}
	return err
}

// bring brings the plugin descriptors for what a stream says, and returns the number that it names them by there.
func (p *Pool) bring(fds []int) (number uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.control == nil {
		return 0, errDeaf
	}
	p.last++
	return p.last, p.say(&wire.LaneControl{Control: &wire.LaneControl_Descriptors{Descriptors: p.last}}, fds...)
}

// Control takes over the socket on which lanes are opened, and by which descriptors come for streams.
func (p *Pool) Control(control *End) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.control = control
	return control.SetTimeouts(arrivalTimeout, sendTimeout)
}

// Accept says that the plugin takes lanes.
func (p *Pool) Accept() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted = true
}

// Accepted reports whether the plugin takes lanes.
func (p *Pool) Accepted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Close ends the lanes that no call has, and those whose calls were given up, and opens no more. The calls on the
// others fail with ErrDied. The plugin's process is dead, but if a thread of it hangs in the kernel, all of its
// sockets stay open.
func (p *Pool) Close() {
	p.closed.Store(true)
	p.sent.close()
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
	n.DeadlineNs = linux.Monotonic(deadline)
	next, set := d.opening(), &d.Captured
	for opening := true; ; opening = false {
		err := l.sendSet(next, set)
		if set != nil && set != &d.Captured {
			set.Close()
		}
		if err != nil {
			return nil, nil, laneError(err, opening)
		}
		message := d.blank()
		fds, err := l.await(ctx, message, caller, deadline)
		if err != nil {
			return nil, nil, laneError(err, opening)
		}
		over, err := checkMessage(message, n.GetId())
		if over && err == nil {
			added, err := takeAdded(message.GetResponse(), fds)
			return message, added, err
		}
		linux.CloseAll(fds...)
		if err != nil {
			return nil, nil, err
		}
		if next, set, err = reply(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// sendSet sends a message with the descriptors of a set, which may be nil.
func (l *Lane) sendSet(message *wire.BrokerMessage, set *capture.Set) error {
	if set == nil {
		return l.Send(message)
	}
	return l.Send(message, set.Descriptors...)
}

// checkMessage reports whether a message is the plugin's last one for the notification.
func checkMessage(message *wire.PluginMessage, id uint64) (over bool, err error) {
	switch response := message.GetResponse(); {
	case message.GetId() != id:
		return false, errors.New("the plugin answered another notification than it has, or twice")
	case response != nil && response.GetKind() == nil:
		return false, errors.New("the plugin sent an unknown message, or an empty answer")
	default:
		return response != nil || message.GetFailure() != nil, nil
	}
}

// await receives the plugin's next message. Its error may be a lane's.
func (l *Lane) await(ctx context.Context, message *wire.PluginMessage, caller Caller, deadline time.Time) (fds []int, err error) {
	for dead := false; ; {
		fds, err := l.Receive(message)
		switch {
		case err == nil:
			l.pool.received.Add(1)
			return fds, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		case dead:
			return nil, ErrDied
		case l.pool.closed.Load():
			dead = true // its end of the lane closes now, and tells more, unless a thread of it hangs in the kernel
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case time.Now().After(deadline): // before Valid: somebody else may have answered the caller by then
			return nil, context.DeadlineExceeded
		case !caller.Valid():
			return nil, ErrGone
		default:
			l.beLate()
		}
	}
}

// laneError makes one of this package's errors of a lane's. What the plugin did not receive is the notification if that
// is the only message that was sent for it: all before has been answered.
func laneError(err error, opening bool) error {
	switch {
	case opening && errors.Is(err, errUnread):
		return ErrUnread
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w, or has closed its lane", ErrDied)
	}
	return err
}

// takeAdded makes sure that the descriptor is there with the one response that has it, and only with that.
func takeAdded(response *wire.Response, fds []int) (*Descriptor, error) {
	wanted := 0
	if response.GetAddFd() != nil {
		wanted = 1
	}
	if len(fds) != wanted {
		linux.CloseAll(fds...)
		return nil, errors.New("the plugin sent a descriptor without an answer that needs it, or such an answer without one")
	}
	if wanted == 0 {
		return nil, nil
	}
	return &Descriptor{fds[0]}, nil
}
