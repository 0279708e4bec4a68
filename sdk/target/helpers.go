package target

import (
	"context"
	"sync"
	"time"
)

// maxHelpers bounds the helper processes in one user namespace. One can linger although it is killed: a filesystem that
// a target serves (FUSE) holds up who asks it. Further ones of that namespace wait, others do not.
const maxHelpers = 16

// helpers counts them.
var helpers = helperCount{slots: map[NamespaceID]*slots{}}

type helperCount struct {
	mu    sync.Mutex
	slots map[NamespaceID]*slots
}

// slots are those of one user namespace, while somebody has one or waits for it.
type slots struct {
	taken chan struct{}
	users int
}

// enter waits for a slot. The error is ctx's, also where ctx tells its deadline and does not end then.
func (h *helperCount) enter(ctx context.Context, namespace NamespaceID) (leave func(), err error) {
	if deadline, ok := ctx.Deadline(); ok && time.Now().After(deadline) {
		return nil, context.DeadlineExceeded
	}
	s := h.use(namespace)
	select {
	case s.taken <- struct{}{}:
	case <-ctx.Done():
		h.drop(namespace, s)
		return nil, ctx.Err()
	}
	return func() {
		<-s.taken
		h.drop(namespace, s)
	}, nil
}

func (h *helperCount) use(namespace NamespaceID) *slots {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.slots[namespace]
	if s == nil {
		s = &slots{taken: make(chan struct{}, maxHelpers)}
		h.slots[namespace] = s
	}
	s.users++
	return s
}

func (h *helperCount) drop(namespace NamespaceID, s *slots) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(h.slots, namespace)
	}
}
