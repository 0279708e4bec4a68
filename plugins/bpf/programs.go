package bpf

import (
	"context"
	"fmt"
	"sync"

	"github.com/intercede/intercede/sdk"
)

// maxKept is how many programs the broker keeps for a container: it has 4,096 entries for a plugin.
const maxKept = 4000

// programs are those that a container loaded, by their ids, also by an earlier process of the plugin: the broker keeps
// them. The kernel gives an id again when it has given all others (idr_alloc_cyclic). Only they are attached and
// detached for it: they have been checked, and what the host attached is not among them.
type programs struct {
	limit int

	mu  sync.Mutex
	ids map[uint32]bool
}

// programKey is the key of a program's entry.
const programKey = "p%x"

func newPrograms(limit int, kept map[string][]byte) *programs {
	p := &programs{limit: limit, ids: map[uint32]bool{}}
	for key := range kept {
		var id uint32
		if n, _ := fmt.Sscanf(key, programKey, &id); n == 1 {
			p.ids[id] = true
		}
	}
	return p
}

func (p *programs) has(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[id]
}

// add adds a program, and has it kept.
func (p *programs) add(ctx context.Context, req *sdk.Request, id uint32) error {
	if err := req.Keep(ctx, fmt.Sprintf(programKey, id), nil); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids[id] = true
	return nil
}

// room reports whether there is room for one more program. It forgets those that are gone, as far as it has to know.
func (p *programs) room(ctx context.Context, req *sdk.Request) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.ids {
		if len(p.ids) < p.limit {
			break
		}
		exists, err := programExists(id)
		if err == nil && !exists {
			err = req.Forget(ctx, fmt.Sprintf(programKey, id))
			delete(p.ids, id)
		}
		if err != nil {
			return false, err
		}
	}
	return len(p.ids) < p.limit, nil
}
