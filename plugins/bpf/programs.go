package main

import "sync"

// maxCost bounds the programs of one container that there are at once: in instructions, of which each program has
// programCost more. Kernel memory for them is the plugin's, some 30 bytes for an instruction.
const (
	maxCost     = 1 << 22
	programCost = 512
)

// programs are those that a container loaded, by their ids. Only they are attached and detached for it: they have been
// checked, and what the host attached is not among them.
type programs struct {
	limit int // of what they cost together

	mu    sync.Mutex
	cost  map[uint32]int
	total int
}

func newPrograms() *programs { return &programs{limit: maxCost, cost: map[uint32]int{}} }

func (p *programs) has(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.cost[id]
	return ok
}

func (p *programs) add(id uint32, insns int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cost[id] = insns + programCost
	p.total += insns + programCost
}

// room says whether there is room for one more program. It forgets those that are no more, as far as it has to know.
func (p *programs) room(insns int) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, cost := range p.cost {
		if p.total+insns+programCost <= p.limit {
			return true, nil
		}
		exists, err := programExists(id)
		if err != nil {
			return false, err
		}
		if !exists {
			p.total -= cost
			delete(p.cost, id)
		}
	}
	return p.total+insns+programCost <= p.limit, nil
}
