package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// superblock is one that this plugin made.
type superblock struct {
	filesystem *filesystem
	writable   bool // the caller could write to the device
	life       *life
}

// superblocks are those that this plugin made for a container and that may be remounted, by st_dev.
type superblocks struct {
	mu    sync.Mutex
	byDev map[uint64]superblock
}

// none says whether there never was one.
func (s *superblocks) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byDev) == 0
}

// add notes the superblock of an open mount.
func (s *superblocks) add(dev uint64, sb superblock, mount int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	life, err := lives.watch(mount)
	if err != nil {
		return err
	}
	for dev, other := range s.byDev {
		if other.life.ended {
			delete(s.byDev, dev)
		}
	}
	if s.byDev == nil {
		s.byDev = map[uint64]superblock{}
	}
	sb.life = life
	s.byDev[dev] = sb
	return nil
}

// remove forgets a superblock.
func (s *superblocks) remove(dev uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byDev, dev)
}

// get finds the superblock of this number. While the caller holds a file of that open, it is the one that was noted: of the
// superblocks that there are at a time no two have the same number.
func (s *superblocks) get(dev uint64) (*superblock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, ok := s.byDev[dev]
	if !ok {
		return nil, nil
	}
	if ended, err := lives.ended(sb.life); ended || err != nil {
		delete(s.byDev, dev)
		return nil, err
	}
	return &sb, nil
}

// life is that of a superblock. Its number is another's as soon as it ends.
type life struct {
	ended bool
}

// lives watches superblocks, by inotify(7), which tells that one is gone (IN_UNMOUNT) before its number is free, and holds up
// nothing.
var lives watcher

type watcher struct {
	mu      sync.Mutex
	inotify int
	started bool
	watched map[int32]*life // by watch descriptor
}

// watch begins to watch the superblock of an open mount.
func (w *watcher) watch(mount int) (*life, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.start(); err != nil {
		return nil, err
	}
	if err := w.drain(); err != nil {
		return nil, err
	}
	// Of a root that nobody can remove, nothing but its end is told.
	number, err := unix.InotifyAddWatch(w.inotify, fmt.Sprintf("/proc/self/fd/%d", mount), unix.IN_DELETE_SELF)
	if err != nil {
		return nil, fmt.Errorf("inotify_add_watch: %w", err)
	}
	l := &life{}
	if known := w.watched[int32(number)]; known != nil {
		l = known
	}
	w.watched[int32(number)] = l
	return l, nil
}

func (w *watcher) start() error {
	if w.started {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify_init1: %w", err)
	}
	w.inotify, w.started, w.watched = fd, true, map[int32]*life{}
	return nil
}

// ended says whether the superblock is gone.
func (w *watcher) ended(l *life) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.drain()
	return l.ended, err
}

// drain reads what has been told. If it was too much for the kernel, all that is watched counts as gone.
func (w *watcher) drain() error {
	var buffer [4096]byte
	for {
		n, err := unix.Read(w.inotify, buffer[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("read of inotify: %w", err)
		}
		const header = int(unsafe.Sizeof(unix.InotifyEvent{}))
		for event := buffer[:n]; len(event) >= header; {
			w.tell(int32(binary.NativeEndian.Uint32(event)), binary.NativeEndian.Uint32(event[4:]))
			event = event[header+int(binary.NativeEndian.Uint32(event[12:])):]
		}
	}
}

// tell takes note of an event.
func (w *watcher) tell(number int32, mask uint32) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		for _, l := range w.watched {
			l.ended = true
		}
		return
	}
	if l := w.watched[number]; l != nil {
		l.ended = true
		delete(w.watched, number)
	}
}
