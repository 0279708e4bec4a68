package broker

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// processors are the processors that this process may run on. A worker keeps to one, and so do the plugins' threads
// that it works with: caller, worker and plugin wait for each other, so one processor is enough for them, and waking
// another costs more than all that they do.
type processors struct {
	numbers []int
	last    atomic.Uint64
}

func findProcessors() (*processors, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	p := &processors{}
	for cpu := 0; len(p.numbers) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			p.numbers = append(p.numbers, cpu)
		}
	}
	return p, nil
}

// next returns each processor in turn.
func (p *processors) next() int {
	return p.numbers[int(p.last.Add(1)%uint64(len(p.numbers)))]
}

// pin keeps the calling goroutine, for good, on a thread of its own on the next processor, whose number it returns.
func (p *processors) pin() int {
	runtime.LockOSThread()
	cpu := p.next()
	var set unix.CPUSet
	set.Set(cpu)
	unix.SchedSetaffinity(0, &set) // fails if the processor was taken away meanwhile: the thread runs elsewhere
	return cpu
}
