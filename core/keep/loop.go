package keep

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// loop waits for events of descriptors, and calls their handlers, on one goroutine: nothing of a keeper is locked.
type loop struct {
	epoll    int
	lastKey  int64
	handlers map[int64]func(events uint32)
	signals  chan os.Signal
}

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &loop{epoll: epoll, handlers: map[int64]func(uint32){}}, nil
}

func (l *loop) close() {
	if l.signals != nil {
		signal.Stop(l.signals)
	}
	linux.CloseAll(l.epoll)
}

// watch has the handler called for each event of the descriptor, which does not belong to the loop, until forget. An
// event that is not dealt with comes again.
func (l *loop) watch(fd int, events uint32, handler func(events uint32)) (key int64, err error) {
	l.lastKey++
	event := unix.EpollEvent{Events: events, Fd: int32(l.lastKey), Pad: int32(l.lastKey >> 32)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return 0, os.NewSyscallError("epoll_ctl", err)
	}
	l.handlers[l.lastKey] = handler
	return l.lastKey, nil
}

// forget ends a watch. The descriptor is still open.
func (l *loop) forget(key int64, fd int) {
	delete(l.handlers, key)
	unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// wait waits for events, or until then, and handles those that are there. A zero time never comes.
func (l *loop) wait(until time.Time) error {
	var events [64]unix.EpollEvent
	n, err := unix.EpollWait(l.epoll, events[:], milliseconds(until))
	if err == unix.EINTR {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("epoll_wait", err)
	}
	for _, event := range events[:n] {
		// Another handler of the same round may have forgotten this one.
		if handler := l.handlers[int64(uint32(event.Fd))|int64(event.Pad)<<32]; handler != nil {
			handler(event.Events)
		}
	}
	return nil
}

// milliseconds until then, rounded up; -1 for the zero time.
func milliseconds(until time.Time) int {
	if until.IsZero() {
		return -1
	}
	const most = time.Hour // less than 2³¹ ms
	return int((min(max(time.Until(until), 0), most) + time.Millisecond - 1) / time.Millisecond)
}

// onSignals has the handler called for each of these signals.
func (l *loop) onSignals(handler func(os.Signal), wanted ...os.Signal) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	l.signals = make(chan os.Signal, 64)
	came := make(chan os.Signal, 64)
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	signal.Notify(l.signals, wanted...)
	go func() {
		for s := range l.signals {
			came <- s
			unix.Write(wake, one[:])
		}
	}()
	_, err = l.watch(wake, unix.EPOLLIN, func(uint32) {
		unix.Read(wake, make([]byte, 8))
		for len(came) > 0 {
			handler(<-came)
		}
	})
	if err != nil {
		return fmt.Errorf("wait for signals: %w", err)
	}
	return nil
}

// earliest is the earliest of the times that are not zero; zero if all are.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}
