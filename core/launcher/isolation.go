package launcher

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Isolation finds the container whose calls end a plugin's process. Each container that had a call in a process when
// that died may be the one, and one that calls all the time has a call in each. So each of them gets a process of the
// plugin for itself: if that dies, no other container is the cause. One that has ended maxDeaths of them is
// quarantined: its calls get the failure verdict, for a time that doubles. One that ends none shares a process again
// after a quiet time.
//
// So a container ends a process that it shares with others once before it is isolated, with two exceptions: a process
// may die after the call that is the cause, and another process may not fit (see Rooms).

const (
	// maxDeaths is how many processes of its own a container ends before it is quarantined.
	maxDeaths = 3
	// quietFactor is how much longer the quiet time is for a container that has ended processes of its own.
	quietFactor = 6
	// leaveTime bounds how long a process is kept for the calls that it has when its container shares another again.
	leaveTime     = time.Minute
	leaveInterval = 100 * time.Millisecond
)

// isolation is what a trouble has to do with processes that died. The trouble's lock guards it.
type isolation struct {
	lastRun    *process      // a shared one that died with calls of the container
	suspected  int           // how many of them did
	isolated   bool          // the container is to have a process of its own
	private    *Plugin       // which keeps that running; nil: not yet, or it does not fit
	ended      int           // processes of its own
	length     time.Duration // of the last quarantine
	quarantine *Quarantine   // under way
	quiet      *time.Timer   // ends the suspicion
}

// blame is called when a call in a process, or an attempt to attach the container, was not answered. The container is
// suspected if the process is dead, or found dead soon.
func (s *Session) blame(run *process) {
	if run.private || s.plugin.spec.Rooms == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
		defer cancel()
		if run.awaitDead(ctx) && !run.spared() {
			s.accuse(run)
		}
	}()
}

// accuse suspects the container because of a process that died with a call of it.
func (s *Session) accuse(run *process) {
	if !run.private && s.plugin.spec.Rooms != nil {
		s.troubles().suspect(run)
	}
}

// suspect isolates the container because of a process that died with a call of it.
func (t *trouble) suspect(run *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.lastRun == run {
		return
	}
	t.lastRun = run
	t.suspected++
	t.awaitQuiet()
	if t.isolated {
		return
	}
	t.isolated = true
	run.isolated.Store(true)
	t.session.log().Warn().Int("pid", run.PID).Msg("a process of the plugin died with calls of the container, which gets one of its own")
}

// awaitQuiet ends the suspicion after a time without deaths.
func (t *trouble) awaitQuiet() {
	quiet := t.session.plugin.spec.Times.orUsual().Quiet
	if t.ended > 0 {
		quiet *= quietFactor
	}
	if t.quarantine != nil {
		quiet += time.Until(t.quarantine.Until)
	}
	if t.quiet == nil {
		t.quiet = time.AfterFunc(quiet, t.forget)
	} else {
		t.quiet.Reset(quiet)
	}
}

// forget ends the suspicion.
func (t *trouble) forget() {
	t.mu.Lock()
	t.suspected, t.ended, t.length = 0, 0, 0
	t.mu.Unlock()
	t.rejoin("no process of the plugin has died with calls of the container since")
}

// rejoin has the container share a process again.
func (t *trouble) rejoin(why string) {
	t.mu.Lock()
	private := t.private
	if t.isolated && !t.closed {
		t.session.log().Info().Str("reason", why).Msg("the container shares a process of the plugin again")
	}
	t.isolated, t.private = false, nil
	t.mu.Unlock()
	t.session.plugin.spec.Rooms.give(t)
	if private != nil {
		private.leave()
	}
}

// close ends what the container has for itself.
func (t *trouble) close() {
	t.mu.Lock()
	private := t.private
	t.closed, t.private = true, nil
	if t.quiet != nil {
		t.quiet.Stop()
	}
	t.mu.Unlock()
	if private != nil {
		t.session.plugin.spec.Rooms.give(t)
		private.Stop()
	}
}

// home returns what has the container's processes: the session's plugin, or a private one. A quarantined container has
// none.
func (s *Session) home() (*Plugin, error) {
	t := s.trouble.Load()
	if t == nil {
		return s.plugin, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.quarantine != nil:
		return nil, t.quarantine.err()
	case t.isolated && t.private == nil && !t.closed && s.plugin.spec.Rooms.take(t, t.suspected+t.ended):
		t.private = s.plugin.startPrivate(t)
	}
	if t.private == nil {
		return s.plugin, nil
	}
	return t.private, nil
}

// startPrivate starts another plugin, for one container alone.
func (p *Plugin) startPrivate(t *trouble) *Plugin {
	log := *t.session.log()
	private := &Plugin{
		spec: p.spec, binary: p.binary, manifest: p.manifest, refused: p.refused, log: log, hclog: newHclog(p.spec.Name, log), owner: t,
		done: make(chan struct{}), changed: make(chan struct{}),
	}
	private.ctx, private.stop = context.WithCancel(p.ctx)
	p.privates.Add(1)
	p.ending.Go(func() {
		defer p.privates.Add(-1)
		first := private.begin()
		if first == nil {
			go t.rejoin(private.Status().Error)
		}
		private.supervise(first)
	})
	return private
}

// quit stops a private plugin, whose calls fail from now on.
func (p *Plugin) quit() {
	p.stop()
	p.change(func() { p.end = errStopped })
}

// leave stops a private plugin when its last call is over. Later calls go elsewhere.
func (p *Plugin) leave() {
	p.mu.Lock()
	current := p.current
	p.mu.Unlock()
	go func() {
		if current != nil {
			current.left.Store(true)
			current.awaitIdle()
		}
		p.Stop()
	}()
}

// awaitIdle waits until the process has no call, but not for ever, since one may hang.
func (p *process) awaitIdle() {
	for range leaveTime / leaveInterval {
		select {
		case <-p.Dead():
			return
		case <-time.After(leaveInterval):
		}
		if p.Lanes.Busy() == 0 && p.streams.Load() == 0 {
			return
		}
	}
}

// died counts a death of a private plugin's process.
func (t *trouble) died(private *Plugin) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.private != private {
		return // the container has left it
	}
	if t.ended++; t.ended%maxDeaths == 0 {
		t.beginQuarantine()
	}
	t.awaitQuiet()
}

// beginQuarantine stops the private plugin too, which has nothing to do then. The trouble is locked.
func (t *trouble) beginQuarantine() {
	times, now := t.session.plugin.spec.Times.orUsual(), time.Now()
	t.length = min(max(2*t.length, times.Quarantine), times.MaxQuarantine)
	t.quarantine = &Quarantine{
		Reason: fmt.Sprintf("%d processes of the plugin that served the container alone have died", t.ended),
		Since:  now, Until: now.Add(t.length),
	}
	t.session.log().Warn().Str("reason", t.quarantine.Reason).Time("until", t.quarantine.Until).
		Msg("quarantined: calls of the container get the failure verdict")
	time.AfterFunc(t.length, t.endQuarantine)
	t.private.quit()
	t.private = nil
	t.session.plugin.spec.Rooms.give(t)
}

func (t *trouble) endQuarantine() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.quarantine = nil
	if !t.closed {
		t.session.log().Info().Msg("the quarantine is over: calls of the container are served, by a process of its own")
	}
}

// Rooms bounds the processes of their own that containers have, of all plugins together. Its methods may be called
// concurrently.
type Rooms struct {
	most int

	mu    sync.Mutex
	taken map[*trouble]int // and how suspect each is
}

// NewRooms makes room for so many processes.
func NewRooms(most int) *Rooms { return &Rooms{most: most, taken: map[*trouble]int{}} }

// take takes a room: where all are taken, that of the least suspect, if it is less suspect.
func (r *Rooms) take(t *trouble, suspicion int) (ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.taken) >= r.most {
		least := r.least()
		if least == nil || r.taken[least] >= suspicion {
			return false
		}
		delete(r.taken, least)
		go least.rejoin("a container that is more suspect needs its room")
	}
	r.taken[t] = suspicion
	return true
}

// least returns the least suspect that has a room.
func (r *Rooms) least() (least *trouble) {
	for t, suspicion := range r.taken {
		if least == nil || suspicion < r.taken[least] {
			least = t
		}
	}
	return least
}

// give gives a room back.
func (r *Rooms) give(t *trouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.taken, t)
}
