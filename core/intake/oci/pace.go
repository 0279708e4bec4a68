package oci

import (
	"context"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pace is how fast arrivals of a user are handled: so many at once, and so many a second after these.
type pace struct {
	burst  int
	second rate.Limit
}

// paces delay the arrivals of users that have many. To attach a container costs the daemon and its plugins some
// milliseconds of processor time, which the calls of other containers would wait for.
type paces struct {
	mu    sync.Mutex
	users map[uint32]*rate.Limiter
}

// maxPaces is how many users are known before some are forgotten.
const maxPaces = 256

// wait waits for the user's turn, or until ctx is done, and returns for how long. The pace is the user's.
func (p *paces) wait(ctx context.Context, uid uint32, pace pace) time.Duration {
	delay := p.reserve(uid, pace)
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
func (p *paces) reserve(uid uint32, pace pace) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	turns := p.users[uid]
	if turns == nil {
		p.forget()
		turns = rate.NewLimiter(pace.second, pace.burst)
		p.users[uid] = turns
	}
	return turns.Reserve().Delay()
}

// forget forgets users who may have a whole burst again, if there are many. The lock is held.
func (p *paces) forget() {
	if p.users == nil {
		p.users = map[uint32]*rate.Limiter{}
	}
	if len(p.users) >= maxPaces {
		maps.DeleteFunc(p.users, func(_ uint32, turns *rate.Limiter) bool { return turns.Tokens() >= float64(turns.Burst()) })
	}
}
