package main

import "sync"

// programs are those that a container loaded, by their ids. Only they are attached and detached for it: they have been
// checked, and what the host attached is not among them.
type programs struct {
	limit int

	mu  sync.Mutex
	ids map[uint32]bool
}

func newPrograms(limit int) *programs { return &programs{limit: limit, ids: map[uint32]bool{}} }

func (p *programs) has(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[id]
}

func (p *programs) add(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids[id] = true
}

// room reports whether there is room for one more program. It forgets those that are gone, as far as it has to know.
func (p *programs) room() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.ids {
		if len(p.ids) < p.limit {
			break
		}
		exists, err := programExists(id)
		if err != nil {
			return false, err
		}
		if !exists {
			delete(p.ids, id)
		}
	}
	return len(p.ids) < p.limit, nil
}
