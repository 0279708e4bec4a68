package broker

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// turns bound how fast users attach listeners: to attach one costs the daemon and its plugins some milliseconds of
// processor time, which the calls of other containers would wait for.
//
// A listener waits for its user's turn when it has all that the next daemon needs to go on with it, so that nothing is
// lost if this one ends meanwhile: its first call waits in the kernel. The connection that brought it is served until
// then, and connections are bounded for each user: core/socket.
type turns struct {
	root, user pace // user: each other user

	mu    sync.Mutex
	users map[uint32]*rate.Limiter
}

// pace is how many listeners may be attached at once, and how many a second after these.
type pace struct {
	burst  int
	second rate.Limit
}

// maxTurns is how many users are known before some are forgotten.
const maxTurns = 256

// usualTurns are those of a machine with so many processors. Where attaching takes 5 ms of a processor, root uses a
// quarter of them for it, and each other user a twentieth.
func usualTurns(processors int) turns {
	n := rate.Limit(processors)
	return turns{root: pace{burst: 128, second: 50 * n}, user: pace{burst: 64, second: 10 * n}}
}

// wait waits for the user's turn, or until ctx is done, and returns for how long. nil is the broker's own process, which
// does not wait.
func (t *turns) wait(ctx context.Context, uid *uint32) time.Duration {
	if uid == nil {
		return 0
	}
	delay := t.reserve(*uid)
	if delay == 0 {
		return 0
	}
	began := time.Now()
	turn := time.NewTimer(delay)
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-ctx.Done():
	}
	return time.Since(began)
}

// reserve takes the user's next turn, and returns the time to it.
func (t *turns) reserve(uid uint32) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	limiter := t.users[uid]
	if limiter == nil {
		t.forget()
		pace := t.user
		if uid == 0 {
			pace = t.root
		}
		limiter = rate.NewLimiter(pace.second, pace.burst)
		t.users[uid] = limiter
	}
	return limiter.Reserve().Delay()
}

// forget forgets users who may have a whole burst again, if there are many. The lock is held.
func (t *turns) forget() {
	if t.users == nil {
		t.users = map[uint32]*rate.Limiter{}
	}
	if len(t.users) >= maxTurns {
		maps.DeleteFunc(t.users, func(_ uint32, l *rate.Limiter) bool { return l.Tokens() >= float64(l.Burst()) })
	}
}
