package broker

import "sync"

// maxIdleWorkers bounds the workers kept for later.
const maxIdleWorkers = 4

// sharedPart is which part of the workers calls beyond a container's first can have, however many containers there are.
const sharedPart = 8

// crew counts the workers, because a Go program ends if the kernel refuses it a thread, and shares them out.
//
// A worker is kept for each container. Those that are left are for calls beyond a container's first, which are called
// extra. Let W be the workers, N the containers, E the extra calls: take keeps E at W-N or below. Of the N containers
// let I have no call in flight. Then E + (N-I) calls are in flight, which is W-I at most. So each of the I containers
// finds a worker for its first call. Only a container that is attached while all workers are taken waits, for the end
// of one extra call.
//
// Where N comes near W or exceeds it, an eighth of the workers is for extra calls all the same. The proof then does not
// hold: first calls may wait, and have their turns in the order in which they came.
type crew struct {
	mu      sync.Mutex
	max     int
	count   int
	idle    int          // that wait for notifications, or are about to
	kept    int          // for containers
	extra   int          // calls
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
	c.kept++
}

// unkeep gives back the worker of a container that has ended. A call that is left of it is an extra one from now on.
func (c *crew) unkeep(busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept--
	if busy {
		c.extra++
	}
}

// take takes a worker for an extra call. Where there is none, the container is woken later if it does not wait already.
func (c *crew) take(a *admission) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.free() > 0 {
		c.extra++
		return true
	}
	if !a.waits {
		a.waits = true
		c.waiting = append(c.waiting, a)
	}
	return false
}

// borrow takes a worker for an extra call, although there may be none: the call has a thread of its own.
func (c *crew) borrow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extra++
}

// free returns how many workers there are for extra calls. The crew is locked.
func (c *crew) free() int { return max(c.max-c.kept, c.max/sharedPart) - c.extra }

// release gives back what take has taken.
func (c *crew) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.extra--
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
	if len(c.waiting) == 0 || woken >= c.free() {
		return nil
	}
	a := c.waiting[0]
	c.waiting = c.waiting[1:]
	return a
}
