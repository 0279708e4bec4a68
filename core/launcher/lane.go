package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// maxLanes bounds the lanes of a plugin: each is a thread of it while it has one. Calls beyond go by gRPC.
	maxLanes = 512
	// maxIdleLanes are kept for later.
	maxIdleLanes = 16
	// laneSendTimeout bounds the wait for a plugin that does not receive.
	laneSendTimeout = time.Second
)

// lanes are those of one plugin process.
type lanes struct {
	mu      sync.Mutex
	control *lane.End   // nil: the plugin takes none
	idle    []*laneConn // the last used last
	count   int
	last    uint64 // number
}

// laneConn is the broker's end of a lane.
type laneConn struct {
	*lane.End
	lanes  *lanes
	number uint64
	cpu    int
}

// take gives a lane of the processor, or nil if there is none.
func (ls *lanes) take(cpu int) *laneConn {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for i, l := range slices.Backward(ls.idle) {
		if l.cpu == cpu {
			ls.idle = slices.Delete(ls.idle, i, i+1)
			return l
		}
	}
	if ls.control == nil || ls.count >= maxLanes {
		return nil
	}
	l, err := ls.open(cpu)
	if err != nil {
		return nil // gRPC will say what is wrong with the plugin
	}
	return l
}

// open makes a lane and gives the plugin its end.
func (ls *lanes) open(cpu int) (*laneConn, error) {
	ours, theirs, err := lane.Pair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	ls.last++
	l := &laneConn{End: lane.New(ours), lanes: ls, number: ls.last, cpu: cpu}
	if err := l.SetTimeouts(goneInterval, laneSendTimeout); err != nil {
		l.Close()
		return nil, err
	}
	if err := ls.say(&wire.LaneControl{Control: &wire.LaneControl_Open{Open: &wire.OpenLane{Number: l.number, Cpu: int32(cpu)}}}, theirs); err != nil {
		l.Close()
		return nil, err
	}
	ls.count++
	return l, nil
}

// put gives a lane back whose call is over. Of too many the one goes that was not used for longest.
func (l *laneConn) put() {
	ls := l.lanes
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.idle = append(ls.idle, l)
	if len(ls.idle) > maxIdleLanes || ls.control == nil {
		ls.idle[0].Close()
		ls.idle = slices.Delete(ls.idle, 0, 1)
		ls.count--
	}
}

// abandon closes a lane whose call is not over, and tells the plugin so.
func (l *laneConn) abandon() {
	l.Close()
	ls := l.lanes
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.count--
	if ls.control != nil {
		ls.say(&wire.LaneControl{Control: &wire.LaneControl_Cancel{Cancel: l.number}}, -1)
	}
}

// say tells the plugin something. One that does not listen gets no more lanes.
func (ls *lanes) say(message *wire.LaneControl, fd int) error {
	err := ls.control.Send(message, fd)
	if err != nil {
		ls.control.Close()
		ls.control = nil
	}
	return err
}

// accept says that the plugin takes lanes, which are opened on this socket.
func (ls *lanes) accept(control *lane.End) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.control = control
	return control.SetTimeouts(0, laneSendTimeout)
}

// close ends the lanes that no call has.
func (ls *lanes) close() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.idle {
		l.Close()
	}
	ls.count -= len(ls.idle)
	ls.idle = nil
	if ls.control != nil {
		ls.control.Close()
		ls.control = nil
	}
}

// handle carries one notification over the lane, which it gives back. The thread waits for the plugin, and looks now and
// then whether that is of any use.
func (l *laneConn) handle(ctx context.Context, p *process, d *Dialogue, caller Caller, deadline time.Time) (*wire.Response, *Descriptor, error) {
	answer, added, err := l.converse(ctx, p, d, caller, deadline)
	if err != nil {
		l.abandon()
		return nil, nil, err
	}
	l.put()
	switch {
	case answer.GetFailure().GetGone():
		return nil, nil, ErrGone
	case answer.GetFailure() != nil:
		return nil, nil, errors.New(bound(answer.GetFailure().GetText()))
	}
	return answer.GetResponse(), added, nil
}

// converse sends the notification, answers questions, and returns the plugin's last message. After an error the plugin may
// still be at it.
func (l *laneConn) converse(ctx context.Context, p *process, d *Dialogue, caller Caller, deadline time.Time) (*wire.PluginMessage, *Descriptor, error) {
	n := &d.Notification
	pidfd, err := p.openCaller(n, caller)
	if err != nil {
		return nil, nil, err
	}
	defer func() { closeFD(pidfd) }() // what is left of it: it is closed as soon as it is sent
	next := d.opening()
	for {
		if err := l.Send(next, pidfd); err != nil {
			return nil, nil, laneError(err)
		}
		pidfd = closeFD(pidfd)
		message := d.blank()
		fd, err := l.await(ctx, message, caller, deadline)
		if err != nil {
			return nil, nil, err
		}
		if message.GetId() != n.GetId() {
			closeFD(fd)
			return nil, nil, errors.New("the plugin answered another notification than it has, or twice")
		}
		if message.GetResponse() != nil && message.GetResponse().GetKind() == nil {
			closeFD(fd)
			return nil, nil, errors.New("the plugin sent an unknown message, or an empty answer")
		}
		if message.GetResponse() != nil || message.GetFailure() != nil {
			added, err := takeAdded(message.GetResponse(), fd)
			return message, added, err
		}
		closeFD(fd)
		if next, err = answer(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// openCaller opens the calling thread for a plugin that acts in its place; -1 if it needs none, or before kernel 6.9.
func (p *process) openCaller(n *wire.Notification, caller Caller) (int, error) {
	n.HasPidfd, n.ValidAt = false, 0
	if !p.entersCallers {
		return -1, nil
	}
	pidfd, err := unix.PidfdOpen(int(n.GetTid()), unix.PIDFD_THREAD)
	if err != nil && !caller.Valid() {
		return -1, ErrGone
	}
	if err != nil {
		return -1, nil
	}
	// The thread id may have been another's before.
	if !caller.Valid() {
		closeFD(pidfd)
		return -1, ErrGone
	}
	n.HasPidfd, n.ValidAt = true, lane.Now()
	return pidfd, nil
}

// closeFD closes a descriptor that is there, and gives the number for none.
func closeFD(fd int) int {
	if fd >= 0 {
		unix.Close(fd)
	}
	return -1
}

// await receives the plugin's next message.
func (l *laneConn) await(ctx context.Context, message *wire.PluginMessage, caller Caller, deadline time.Time) (int, error) {
	for {
		fd, err := l.Receive(message)
		switch {
		case err == nil:
			return fd, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return -1, laneError(err)
		case ctx.Err() != nil:
			return -1, context.Cause(ctx)
		case !caller.Valid():
			return -1, ErrGone
		case time.Now().After(deadline):
			return -1, context.DeadlineExceeded
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
		closeFD(fd)
		return nil, errors.New("the plugin sent a descriptor without an answer that needs it, or such an answer without one")
	}
	if fd < 0 {
		return nil, nil
	}
	return &Descriptor{fd}, nil
}
