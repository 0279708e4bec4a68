package listener

import (
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ping is an event that is not a listener's: one of the threads in Wait takes it as it takes all others.
type ping struct {
	fd int // eventfd, and an event like those of listeners: it is silent until it is armed

	mu      sync.Mutex
	waiting []chan struct{} // closed at the next answer
}

func (p *Poller) addPing() (err error) {
	if p.ping.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	return p.control(unix.EPOLL_CTL_ADD, p.ping.fd, unix.EPOLLIN|unix.EPOLLET, pingKey)
}

// Ping returns a channel that is closed when a thread in Wait has taken an event that comes after those that wait
// already: it proves that events are taken. After Release it is not.
func (p *Poller) Ping() <-chan struct{} {
	answered := make(chan struct{})
	p.ping.mu.Lock()
	p.ping.waiting = append(p.ping.waiting, answered)
	p.ping.mu.Unlock()
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.released {
		unix.Write(p.ping.fd, one[:])
	}
	return answered
}

func (p *ping) answer() {
	unix.Read(p.fd, make([]byte, 8))
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, answered := range p.waiting {
		close(answered)
	}
	p.waiting = nil
}
