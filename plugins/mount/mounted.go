package mount

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// superblock is one that this plugin made.
type superblock struct {
	filesystem *filesystem
	source     *source
	number     uint64       // of the superblock, which st_dev is unless the filesystem is anonymous
	readOnly   *atomic.Bool // what was asked for last
	life       *life
	dev        uint64   // st_dev
	mounts     []uint64 // ids of mounts that this plugin made of it, guarded by superblocks
}

// superblocks are those that this plugin made for a container, which may mount them again and change them, by st_dev.
type superblocks struct {
	mu     sync.Mutex
	byDev  map[uint64]*superblock
	making map[uint64]chan struct{} // by device: closed when the call that makes a superblock of it is done
	ending map[uint64]time.Time     // by device: when the end of a superblock was noticed, unless it has a new one
}

// endingPatience is how long a superblock may take to end after that was noticed: it has to write all that was changed.
const endingPatience = 5 * time.Second

// isEnding reports whether the device may still have a superblock of the container that has no mount any more. The
// kernel tells the end (IN_UNMOUNT) before it writes what was changed and lets go of the device.
func (s *superblocks) isEnding(device uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	noticed, ok := s.ending[device]
	if ok && time.Since(noticed) > endingPatience {
		delete(s.ending, device)
		ok = false
	}
	return ok
}

// forget takes out one that has ended. s.mu is held.
func (s *superblocks) forget(dev uint64) {
	if s.ending == nil {
		s.ending = map[uint64]time.Time{}
	}
	s.ending[s.byDev[dev].source.dev] = time.Now()
	delete(s.byDev, dev)
}

// turn waits until no other call makes a superblock of the device: the next one finds it noted.
func (s *superblocks) turn(ctx context.Context, device uint64) (release func(), err error) {
	for {
		s.mu.Lock()
		other := s.making[device]
		if other == nil {
			break
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer s.mu.Unlock()
	if s.making == nil {
		s.making = map[uint64]chan struct{}{}
	}
	done := make(chan struct{})
	s.making[device] = done
	return func() {
		s.mu.Lock()
		delete(s.making, device)
		s.mu.Unlock()
		close(done)
	}, nil
}

// none reports whether there never was one.
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
	for other, sb := range s.byDev {
		if sb.life.ended {
			s.forget(other)
		}
	}
	delete(s.ending, sb.source.dev)
	if s.byDev == nil {
		s.byDev = map[uint64]*superblock{}
	}
	sb.life, sb.dev = life, dev
	s.byDev[dev] = &sb
	return nil
}

// find finds a superblock that lives.
func (s *superblocks) find(wanted func(*superblock) bool) (*superblock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for dev, sb := range s.byDev {
		if !wanted(sb) {
			continue
		}
		ended, err := lives.ended(sb.life)
		if err != nil {
			return nil, err
		}
		if !ended {
			return sb, nil
		}
		s.forget(dev)
	}
	return nil, nil
}

// get finds the superblock of this number. While the caller holds a file of that open, it is the one that was noted: of
// the superblocks that there are at a time no two have the same number.
func (s *superblocks) get(dev uint64) (*superblock, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb, ok := s.byDev[dev]
	if !ok {
		return nil, nil
	}
	if ended, err := lives.ended(sb.life); ended || err != nil {
		s.forget(dev)
		return nil, err
	}
	return sb, nil
}

// note notes one more mount of a superblock.
func (s *superblocks) note(sb *superblock, mount uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(sb.mounts, mount) {
		sb.mounts = append(slices.Clone(sb.mounts[max(0, len(sb.mounts)-maxKeptMounts+1):]), mount)
	}
}

// mountsOf gives the mounts that were noted last.
func (s *superblocks) mountsOf(sb *superblock) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sb.mounts
}

// life is that of a superblock. Its number is another's as soon as it ends.
type life struct {
	ended bool
}

// lives watches superblocks, by inotify(7), which tells that one is gone (IN_UNMOUNT) before its number is free, and
// holds up nothing.
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

// ended reports whether the superblock is gone.
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

// superblockNumber is the number of an open mount's superblock. A subvolume of btrfs has another one for st_dev.
func superblockNumber(mount int) (uint64, error) {
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("inotify_init1: %w", err)
	}
	defer unix.Close(inotify)
	if _, err := unix.InotifyAddWatch(inotify, fmt.Sprintf("/proc/self/fd/%d", mount), unix.IN_DELETE_SELF); err != nil {
		return 0, fmt.Errorf("inotify_add_watch: %w", err)
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", inotify))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		var watch, inode, number uint64
		if n, _ := fmt.Sscanf(line, "inotify wd:%x ino:%x sdev:%x", &watch, &inode, &number); n == 3 {
			const minorBits = 20 // include/linux/kdev_t.h
			return unix.Mkdev(uint32(number>>minorBits), uint32(number&(1<<minorBits-1))), nil
		}
	}
	return 0, fmt.Errorf("fdinfo of an inotify descriptor without a watch: %q", info)
}
