package launcher

import (
	"time"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
)

const (
	// lookInterval is how often a process with a late call is looked at, at most.
	lookInterval = 200 * time.Millisecond
	// stoppedFor is how long a process may be stopped, as a debugger stops it for a moment.
	stoppedFor = time.Second
	// endingDelay is how long after its death it is known how a process ended, unless it cannot be gone.
	endingDelay = 2 * time.Second
)

// late is called about every 100 ms for each call that the process has not answered in that time. A process that is
// stopped, by SIGSTOP or a debugger, answers none: it is killed. One that is only slow is never found stopped.
//
// The killed process does nothing more for a caller: SIGKILL ends a stopped thread where it is stopped, on the way back
// to its program (get_signal, kernel/signal.c).
func (p *process) late() {
	now := time.Now().UnixNano()
	last := p.looked.Load()
	if time.Duration(now-last) < lookInterval || !p.looked.CompareAndSwap(last, now) {
		return
	}
	if !linux.IsStopped(p.PID) {
		p.stoppedAt.Store(0)
		return
	}
	p.stoppedAt.CompareAndSwap(0, now)
	if since := p.stoppedAt.Load(); time.Duration(now-since) < stoppedFor {
		return
	}
	p.stopped.Store(true)
	p.Kill()
}

// lateCaller has late called for a call that is waited for on a stream, or to be attached.
type lateCaller struct {
	lane.Caller
	late func()
}

// Valid implements lane.Caller.
func (c lateCaller) Valid() bool {
	c.late()
	return c.Caller.Valid()
}

// late is process.late for the process that the container is being attached to.
func (s *Session) late() {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != nil {
		last.process.late()
	}
}

// spared reports whether the death of a process is no fault of the calls that it had: somebody on the host has stopped
// it, or killed it with SIGKILL. No container can do that, and it can have it done by the kernel in one way alone, by
// using up memory, of which the process's own cgroup tells. The process is dead.
func (p *process) spared() bool {
	switch {
	case p.stopped.Load():
		return true
	case p.silent.Load():
		return false
	}
	select {
	case <-p.Ended():
		return p.KilledFromOutside()
	case <-time.After(endingDelay):
		return false
	}
}
