package launcher

import (
	"context"
	"errors"
	"time"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
)

// A call whose process dies is shown to the next one, as long as its deadline allows:
//
//   - always, if the process has not received it (lane.ErrUnread);
//   - else if its class allows it (Syscall.repeat), when the dead process is gone, so that no two processes ever work
//     on one call. What the broker has captured for it is shown again: it was the caller's while that waited in this call,
//     which it still does.
//
// The call may be what ends the processes. So it counts how many have died with it: one that containers share gets it
// once more at most, and after maxRepeats it gets the failure verdict. Deaths from outside count for nothing: see
// process.spared.

const (
	// maxRepeats is how often a call is shown to a further process because one has died with it.
	maxRepeats = 2
	// maxShared is how many processes that containers share a call may end.
	maxShared = 2
)

// deaths counts the processes that have died with a call.
type deaths struct {
	all    int
	shared int // of them, those that containers share
}

// repeat shows a call whose process has died, or seems to have, to the next one, until one answers or it must not be
// repeated any more.
func (s *Session) repeat(
	ctx context.Context, d *lane.Dialogue, caller lane.Caller, deadline time.Time, cpu int, run *process, died error,
) (*wire.Response, *lane.Descriptor, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	ctx, release := lane.WhileWaiting(ctx, caller)
	defer release()
	var count deaths
	for {
		if err := s.mayRepeat(ctx, d, run, died, &count); err != nil {
			return nil, nil, err
		}
		response, added, next, err := s.try(ctx, d, caller, deadline, cpu)
		if !errors.Is(err, lane.ErrDied) || next == nil {
			s.checkDeath(next, err)
			return response, added, err
		}
		run, died = next, err
	}
}

// mayRepeat returns nil when the call may be shown to another process than the one that has died, or else what becomes
// of it.
func (s *Session) mayRepeat(ctx context.Context, d *lane.Dialogue, run *process, died error, count *deaths) error {
	if errors.Is(died, lane.ErrUnread) {
		run.awaitDead(ctx) // it may only have closed its lane: then it gets the call by another one
		return ended(ctx)
	}
	if s.class(d) == wire.Repeat_REPEAT_NEVER || !run.awaitDead(ctx) {
		s.blame(run)
		return died
	}
	if !run.spared() {
		s.accuse(run)
		count.all++
		if !run.private {
			count.shared++
		}
	}
	if count.all > maxRepeats || count.shared >= maxShared && s.shares() {
		return died
	}
	select {
	case <-run.Gone():
	case <-ctx.Done():
	}
	d.Notification.Again = true
	return ended(ctx)
}

// ended is why a context has ended; nil: it has not.
func ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// class is the class of the dialogue's call.
func (s *Session) class(d *lane.Dialogue) wire.Repeat {
	for _, declared := range s.plugin.manifest.GetSyscalls() {
		if declared.GetName() == d.Notification.GetSyscall() {
			return declared.GetRepeat()
		}
	}
	return wire.Repeat_REPEAT_NEVER
}

// shares reports whether the container's next call goes to a process that it shares with others.
func (s *Session) shares() bool {
	home, err := s.home()
	return err == nil && home == s.plugin
}

// awaitDead waits until the process is known to be dead: the end of its sockets comes a little earlier, or much, if it
// takes the kernel time to close its files. It reports whether it is. One that lives has only closed its sockets.
func (p *process) awaitDead(ctx context.Context) bool {
	if !linux.IsExiting(p.PID) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, deathDelay)
		defer cancel()
	}
	select {
	case <-p.Dead():
		return true
	case <-ctx.Done():
		return p.IsDead()
	}
}

// LoseNextAnswer says whether the process that gives the next answer is killed before that is used, as if it had died
// just before it could give it. So a test finds out what becomes of a call of each class.
func (p *Plugin) LoseNextAnswer(lose bool) { p.lose.Store(lose) }

// losesAnswer reports whether an answer is to be lost, which it is then.
func (p *Plugin) losesAnswer() bool { return p.lose.Load() && p.lose.CompareAndSwap(true, false) }

// lose kills the process, with an answer that nobody gets.
func (p *process) lose(added *lane.Descriptor) error {
	if added != nil {
		added.Close()
	}
	p.Kill()
	return lane.ErrDied
}
