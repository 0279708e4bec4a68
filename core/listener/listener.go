// Package listener waits on many seccomp listeners at once.
//
// Any number of threads may wait in Poller.Wait. Each event goes to one of them, and the listener then stays silent
// until it is armed again. So only one thread at a time receives from a listener, and RECV does not block (see
// internal/notify). The callers of a listener that is not armed wait in the kernel.
package listener

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// ErrClosed is returned by Wait after Close.
var ErrClosed = errors.New("the poller is closed")

// Poller is an epoll instance.
type Poller struct {
	epoll int
	wake  int // eventfd; readable for ever after Close
	ping  ping
	ended chan struct{} // closed by Close
	end   func()

	mu        sync.Mutex
	lastKey   uint64
	listeners map[uint64]*Listener
	released  bool
}

// Epoll data of the eventfds.
const (
	wakeKey = iota
	pingKey
)

// NewPoller makes a poller.
func NewPoller() (*Poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ended := make(chan struct{})
	p := &Poller{
		epoll: epoll, wake: wake, lastKey: pingKey, listeners: map[uint64]*Listener{}, ping: ping{fd: -1},
		ended: ended, end: sync.OnceFunc(func() { close(ended) }),
	}
	err = p.control(unix.EPOLL_CTL_ADD, wake, unix.EPOLLIN, wakeKey)
	if err == nil {
		err = p.addPing()
	}
	if err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

func (p *Poller) control(op, fd int, events uint32, key uint64) error {
	event := unix.EpollEvent{Events: events, Fd: int32(key), Pad: int32(key >> 32)}
	if err := unix.EpollCtl(p.epoll, op, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Listener is one seccomp listener in a poller. Its descriptor is closed after Close and the Release of every Hold, so
// that a late answer never reaches a reused descriptor.
type Listener struct {
	notify.FD
	poller *Poller
	key    uint64
	file   *os.File
	refs   atomic.Int64
	data   any

	mu     sync.Mutex // between Arm and Close: the descriptor's number may be another's after Close
	closed bool
}

// Add takes the file over, with data for Listener.Data. The listener is silent until it is armed. When Add returns an
// error the file still belongs to the caller.
func (p *Poller) Add(file *os.File, data any) (*Listener, error) {
	notify.FD(file.Fd()).SyncWakeUp() // where the kernel has it
	l := &Listener{FD: notify.FD(file.Fd()), poller: p, file: file, data: data}
	l.refs.Store(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastKey++
	l.key = p.lastKey
	// Without any event asked for, only EPOLLHUP and EPOLLERR come, which cannot be masked.
	if err := p.control(unix.EPOLL_CTL_ADD, int(l.FD), unix.EPOLLONESHOT, l.key); err != nil {
		return nil, err
	}
	p.listeners[l.key] = l
	return l, nil
}

// Data returns what Add was given.
func (l *Listener) Data() any { return l.data }

// Arm asks for the listener's next event.
func (l *Listener) Arm() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return l.poller.control(unix.EPOLL_CTL_MOD, int(l.FD), unix.EPOLLIN|unix.EPOLLONESHOT, l.key)
}

// Hold keeps the descriptor open until Release.
func (l *Listener) Hold() { l.refs.Add(1) }

// Release ends a Hold.
func (l *Listener) Release() {
	if l.refs.Add(-1) == 0 {
		l.file.Close()
	}
}

// Close removes the listener from the poller. Callers that still wait get ENOSYS when the last Hold is released
// (seccomp_unotify(2)). A second Close does nothing.
func (l *Listener) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	l.poller.forget(l)
	unix.EpollCtl(l.poller.epoll, unix.EPOLL_CTL_DEL, int(l.FD), nil)
	l.Release()
}

// Cut closes the listener although others hold it, who find from then on that nobody waits. A thread of theirs may hang
// for ever, and so would the callers.
func (l *Listener) Cut() {
	l.Hold()
	defer l.Release()
	l.Close()
	// The number stays taken as long as somebody may use it: by the eventfd, which has none of a listener's requests.
	unix.Dup3(l.poller.wake, int(l.FD), unix.O_CLOEXEC)
}

func (p *Poller) forget(l *Listener) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.listeners, l.key)
}

// hold returns the listener with the key, held; nil if it is closed.
func (p *Poller) hold(key uint64) *Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[key]
	if l != nil {
		l.Hold()
	}
	return l
}

// Wait waits for an event of an armed listener: a notification to receive, or, with hangup, the end of the last
// filtered task. The listener is held: the caller must call Release.
func (p *Poller) Wait() (l *Listener, hangup bool, err error) {
	var events [1]unix.EpollEvent
	for {
		_, err := unix.EpollWait(p.epoll, events[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("epoll_wait: %w", err)
		}
		key := uint64(uint32(events[0].Fd)) | uint64(uint32(events[0].Pad))<<32
		switch key {
		case wakeKey:
			return nil, false, ErrClosed
		case pingKey:
			p.ping.answer()
			continue
		}
		l := p.hold(key)
		switch {
		case l == nil:
		case events[0].Events == unix.EPOLLERR:
			// A signal interrupted the kernel's look at the listener (seccomp_notify_poll, kernel/seccomp.c): look
			// again.
			if l.Arm() != nil {
				return l, true, nil
			}
			l.Release()
		default:
			return l, events[0].Events&unix.EPOLLIN == 0, nil
		}
	}
}

// Pending reports whether an event waits to be taken by Wait. It takes none, and may be called at any time.
func (p *Poller) Pending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return false
	}
	poll := []unix.PollFd{{Fd: int32(p.epoll), Events: unix.POLLIN}}
	n, _ := unix.Poll(poll, 0)
	return n > 0
}

// Close makes every Wait return ErrClosed, now and later. It does not close the listeners.
func (p *Poller) Close() {
	p.end()
	var one = [8]byte{7: 1}
	unix.Write(p.wake, one[:])
}

// Ended returns a channel that is closed by Close.
func (p *Poller) Ended() <-chan struct{} { return p.ended }

// Release closes the poller's descriptors. It is called when no Wait runs any more. A second one does nothing.
func (p *Poller) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released {
		return
	}
	p.released = true
	linux.CloseAll(p.wake, p.epoll, p.ping.fd)
}
