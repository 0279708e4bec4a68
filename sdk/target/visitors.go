package target

import (
	"context"
	"sync"
)

// maxVisits bounds the children in one user namespace. One can linger although it is killed: a filesystem that a target
// serves (FUSE) holds up who asks it. Further visits there wait, others do not.
const maxVisits = 16

// visitors counts them.
var visitors = visitorCount{slots: map[NamespaceID]*slots{}}

type visitorCount struct {
	mu    sync.Mutex
	slots map[NamespaceID]*slots
}

// slots are those of one user namespace, while somebody has one or waits for it.
type slots struct {
	taken chan struct{}
	users int
}

// enter waits for a slot. The error is ctx's.
func (v *visitorCount) enter(ctx context.Context, namespace NamespaceID) (leave func(), err error) {
	s := v.use(namespace)
	select {
	case s.taken <- struct{}{}:
	case <-ctx.Done():
		v.drop(namespace, s)
		return nil, ctx.Err()
	}
	return func() {
		<-s.taken
		v.drop(namespace, s)
	}, nil
}

func (v *visitorCount) use(namespace NamespaceID) *slots {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.slots[namespace]
	if s == nil {
		s = &slots{taken: make(chan struct{}, maxVisits)}
		v.slots[namespace] = s
	}
	s.users++
	return s
}

func (v *visitorCount) drop(namespace NamespaceID, s *slots) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(v.slots, namespace)
	}
}
