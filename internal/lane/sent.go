package lane

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// arrivalTimeout bounds the wait for a descriptor that a plugin says it has sent.
	arrivalTimeout = time.Second
	// maxSent bounds the descriptors that a plugin has sent and no answer has named.
	maxSent = 64
)

// sent are the descriptors that the plugin sends for its answers on streams. Nothing is received before an answer names
// one, so that no thread waits for them.
type sent struct {
	mu    sync.Mutex
	end   *End // of the socket on which lanes are opened, for what comes from the plugin; nil: not open
	early []early
}

// early is a descriptor that came before the one that was waited for.
type early struct {
	number uint64
	fd     int
}

// take gives the descriptor that the plugin sent under the number, which is the caller's to close.
func (s *sent) take(number uint64, open func() (*End, error)) (d *Descriptor, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.early, func(e early) bool { return e.number == number }); i >= 0 {
		d = NewDescriptor(s.early[i].fd)
		s.early = slices.Delete(s.early, i, i+1)
		return d, nil
	}
	if s.end == nil {
		if s.end, err = open(); err != nil {
			return nil, err
		}
	}
	for {
		fd, got, err := s.receive()
		switch {
		case err != nil:
			return nil, fmt.Errorf("the answer adds descriptor %d, which the plugin has not sent: see AddFD in plugin.proto: %w", number, err)
		case got == number:
			return NewDescriptor(fd), nil
		}
		s.keep(early{got, fd})
	}
}

// receive receives the next descriptor.
func (s *sent) receive() (fd int, number uint64, err error) {
	var message wire.LaneControl
	fds, err := s.end.Receive(&message)
	if err != nil {
		return -1, 0, err
	}
	kind, ok := message.GetControl().(*wire.LaneControl_Descriptors)
	if !ok || len(fds) != 1 {
		linux.CloseAll(fds...)
		return -1, 0, fmt.Errorf("%w: a message with %d descriptors: want descriptors, with one", ErrBroken, len(fds))
	}
	return fds[0], kind.Descriptors, nil
}

// keep keeps a descriptor. Of too many the oldest is closed.
func (s *sent) keep(e early) {
	if s.early = append(s.early, e); len(s.early) > maxSent {
		unix.Close(s.early[0].fd)
		s.early = s.early[1:]
	}
}

func (s *sent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		s.end.Close()
	}
	for _, e := range s.early {
		unix.Close(e.fd)
	}
	s.early = nil
}

// takeSent gives the descriptor that the plugin sent under the number.
func (p *Pool) takeSent(number uint64) (*Descriptor, error) {
	return p.sent.take(number, func() (*End, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.control == nil {
			return nil, errDeaf
		}
		return p.control.Clone()
	})
}
