package broker

import (
	"sync"
	"time"
)

// slowAfter is how long a call takes at least that is a slow one. Most take a hundredth of that; one for which a plugin
// starts a process keeps a processor busy for a few milliseconds.
const slowAfter = 10 * time.Millisecond

// pacer bounds the quick calls of a container, and lets containers that wait for theirs go on when those turn out to be
// slow ones.
//
// A container has no more quick calls at once than there are processors: each keeps one busy, in the broker or in a
// plugin, and more of them would only make those of other containers wait for their turns. While other containers call
// too, it leaves one processor to them. Slow calls wait for something themselves, and are bounded by Limits.MaxInflight
// alone. No call says beforehand which it is. So the pacer looks at the calls after a while, as long as some container
// waits.
type pacer struct {
	watchdog   *watchdog
	processors int
	company    company

	mu    sync.Mutex
	paced []*admission // to look at next
}

// quick returns how many quick calls a container may have at once.
func (p *pacer) quick() int {
	if p.company.present() {
		return max(p.processors-1, 1)
	}
	return p.processors
}

// add has the pacer look at the container's calls after slowAfter.
func (p *pacer) add(a *admission) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paced = append(p.paced, a)
	if len(p.paced) == 1 {
		time.AfterFunc(slowAfter, p.tick)
	}
}

// tick lets the containers go on that may. The others add themselves again.
func (p *pacer) tick() {
	p.watchdog.markSlow(time.Now())
	p.mu.Lock()
	paced := p.paced
	p.paced = nil
	p.mu.Unlock()
	for _, a := range paced {
		a.goOn()
	}
}
