// Package figures counts calls and how long they took, without locks or allocations, and finds in the counts of two
// moments what has happened between them.
package figures

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
)

// Calls are numbers of calls since the daemon started, or since the container was attached to it.
type Calls struct {
	Return   uint64 `json:"return"`
	Errno    uint64 `json:"errno"`
	Continue uint64 `json:"continue"`
	AddFD    uint64 `json:"addfd"`
	Gone     uint64 `json:"gone"`
	Again    uint64 `json:"again"`
	Next     uint64 `json:"next"`   // the plugin has handed them back; of a container none are
	Failed   uint64 `json:"failed"` // of those above, the ones that got a failure verdict
}

// All returns the number of calls.
func (c Calls) All() uint64 {
	return c.Return + c.Errno + c.Continue + c.AddFD + c.Gone + c.Again + c.Next
}

// Counter counts calls by how they ended. Its zero value has none, and takes next to no memory: most plugins of a
// container are never asked for it.
type Counter struct{ counts atomic.Pointer[counts] }

type counts struct {
	result, errno, proceed, addFD, gone, again, next, failed atomic.Uint64
}

// made is what the pointer points to, which is made at the first use.
func made[T any](p *atomic.Pointer[T]) *T {
	if known := p.Load(); known != nil {
		return known
	}
	p.CompareAndSwap(nil, new(T))
	return p.Load()
}

// Count counts a call.
func (c *Counter) Count(o *audit.Outcome) {
	counts := made(&c.counts)
	counts.of(o.Kind).Add(1)
	if o.Err != nil {
		counts.failed.Add(1)
	}
}

// CountNext counts a call that a plugin has handed back.
func (c *Counter) CountNext() { made(&c.counts).next.Add(1) }

func (c *counts) of(kind audit.Kind) *atomic.Uint64 {
	switch kind {
	case audit.Return:
		return &c.result
	case audit.Errno:
		return &c.errno
	case audit.Continue:
		return &c.proceed
	case audit.AddFD:
		return &c.addFD
	case audit.Again:
		return &c.again
	default:
		return &c.gone
	}
}

// Calls returns the numbers, each as it is when it is read.
func (c *Counter) Calls() Calls {
	n := c.counts.Load()
	if n == nil {
		return Calls{}
	}
	return Calls{
		Return: n.result.Load(), Errno: n.errno.Load(), Continue: n.proceed.Load(), AddFD: n.addFD.Load(),
		Gone: n.gone.Load(), Again: n.again.Load(), Next: n.next.Load(), Failed: n.failed.Load(),
	}
}

// The classes of durations: one below shortest, two for each doubling from there on, and one for all that is longer
// than the deadlines of calls let it be.
const (
	shortest  = 4 * time.Microsecond // a call to the broker and back takes longer
	doublings = 23                   // the last class begins at 33.6 s
	classes   = 2 + 2*doublings
)

// Histogram counts durations by their classes. Its zero value has none, and takes next to no memory.
type Histogram struct {
	counts atomic.Pointer[[classes]atomic.Uint64]
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) { made(&h.counts)[classOf(d)].Add(1) }

func classOf(d time.Duration) int {
	if d < shortest {
		return 0
	}
	micros := uint64(d / time.Microsecond)
	exponent := bits.Len64(micros) - 1
	upperHalf := int(micros>>(exponent-1)) & 1
	return min(1+2*(exponent-2)+upperHalf, classes-1)
}

// lowerBound is the shortest duration of a class.
func lowerBound(class int) time.Duration {
	if class == 0 {
		return 0
	}
	doubling, upperHalf := (class-1)/2, (class-1)%2
	low := shortest << doubling
	return low + time.Duration(upperHalf)*low/2
}

// Durations are how many calls took how long, by classes; those at the end that have none are left out.
type Durations []uint64

// Durations returns the numbers, each as it is when it is read.
func (h *Histogram) Durations() Durations {
	counts := h.counts.Load()
	if counts == nil {
		return Durations{}
	}
	d := make(Durations, 0, classes)
	used := 0
	for i := range counts {
		n := counts[i].Load()
		if d = append(d, n); n > 0 {
			used = len(d)
		}
	}
	return d[:used]
}

// Bounds returns, for each class but the last, the duration in seconds below which its calls have taken.
func Bounds() []float64 {
	bounds := make([]float64, classes-1)
	for i := range bounds {
		bounds[i] = lowerBound(i + 1).Seconds()
	}
	return bounds
}
