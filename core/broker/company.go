package broker

import (
	"sync/atomic"
	"time"
)

// companyTime is how long containers count as calling at the same time after two of them did.
const companyTime = 100 * time.Millisecond

// company knows whether more than one container makes calls.
type company struct {
	last  atomic.Pointer[admission] // of the container that called last
	until atomic.Int64              // there is company until then: a time of clock
}

// clock is the time since the package was initialized, by the monotonic clock.
func clock() time.Duration { return time.Since(clockBegan) }

var clockBegan = time.Now()

// note is called with each call of a container. As long as one container makes all of them, nothing is written, which
// processors would wait for.
func (c *company) note(a *admission) {
	last := c.last.Load()
	if last == a {
		return
	}
	c.last.Store(a)
	if last != nil {
		c.until.Store(int64(clock() + companyTime))
	}
}

// present reports whether more than one container makes calls.
func (c *company) present() bool {
	until := c.until.Load()
	return until != 0 && clock() < time.Duration(until)
}
