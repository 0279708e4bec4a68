package broker

import "sync"

// maxIdleWorkers bounds the workers kept for later.
const maxIdleWorkers = 4

// crew counts the workers, because a Go program ends if the kernel refuses it a thread, and shares them out.
//
// One worker is kept for each container that has no call in flight. What is left is for calls beyond a container's first.
// So taken, the calls in flight and the containers without any, grows with a new container and with a call beyond a
// container's first; for the latter only up to max. A container's first call takes the worker that was kept for it. As
// long as there are no more containers than workers, it therefore finds a worker that no call has. More containers share
// the workers: each then has one call in flight at most, and they have their turns in the order in which they called.
type crew struct {
	mu      sync.Mutex
	max     int
	count   int
	idle    int // that wait for notifications, or are about to
	taken   int
	waiting []*admission // that were refused a worker, the first first
}

// join counts a worker in, which is idle.
func (c *crew) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	c.idle++
}

// busy counts an idle worker as busy. It reports whether another must be started because none waits. At the limit none
// is started: notifications then wait in the poller until a worker comes back to it.
func (c *crew) busy() (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle--
	return c.idle == 0 && c.count < c.max
}

// done counts a busy worker as idle, or out if enough are idle. It reports whether the worker stays.
func (c *crew) done() (stay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle >= maxIdleWorkers {
		c.count--
		return false
	}
	c.idle++
	return true
}

// lose counts out a busy worker that was lost for a while. It reports whether another must be started.
func (c *crew) lose() (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count--
	return c.idle == 0 && c.count < c.max
}

// keep keeps a worker for a new container.
func (c *crew) keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken++
}

// take takes a worker for a call beyond the first of a container. Where there is none, the container is woken later if
// it does not wait already.
func (c *crew) take(a *admission) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taken < c.max {
		c.taken++
		return true
	}
	if !a.waits {
		a.waits = true
		c.waiting = append(c.waiting, a)
	}
	return false
}

// release gives back what keep or take has taken.
func (c *crew) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken--
}

// wake lets containers that were refused a worker try again, as many as there are workers. None of them is locked.
func (c *crew) wake() {
	for woken := 0; ; {
		a := c.next(woken)
		if a == nil {
			return
		}
		if a.retry() {
			woken++
		}
	}
}

// next takes a container from those that wait, if there are workers beside those for so many that were woken.
func (c *crew) next(woken int) *admission {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 || c.taken+woken >= c.max {
		return nil
	}
	a := c.waiting[0]
	c.waiting = c.waiting[1:]
	return a
}
