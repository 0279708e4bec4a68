package mknod

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxCovers is how many covers the broker keeps for a container: it has 4,096 entries for a plugin.
const maxCovers = 4000

// covers counts what covers nodes of one container, until nothing of it is left in any mount namespace. The broker
// keeps an entry for each, so that the next process of the plugin counts it too.
type covers struct {
	max    int
	logged sync.Once

	// Guarded by the watch.
	count int
	free  []int          // numbers of entries that are of no cover any more: they are used again
	next  int            // the first number that no entry has
	left  map[int]uint64 // covers that an earlier process has made, by their entries: st_dev
}

// newCovers makes covers that may be so many, with those of earlier processes.
func newCovers(most int, kept map[string][]byte) *covers {
	c := &covers{max: most, left: map[int]uint64{}}
	seen := map[uint64]bool{} // of two entries with one number, one is of a cover that was gone when the other was made
	for key, value := range kept {
		var number int
		if n, _ := fmt.Sscanf(key, coverKey, &number); n != 1 || len(value) != coverSize {
			continue
		}
		c.next = max(c.next, number+1)
		if dev := binary.NativeEndian.Uint64(value); !seen[dev] {
			seen[dev], c.left[number] = true, dev
		}
	}
	for number := range c.next {
		if _, used := c.left[number]; !used {
			c.free = append(c.free, number)
		}
	}
	c.count = len(c.left)
	return c
}

const (
	// coverKey is the key of the entry of a cover, with its number.
	coverKey = "cover %d"
	// coverSize is the size of its value, the cover's st_dev, in bytes.
	coverSize = 8
)

// take takes an entry for one more cover. The watch is locked.
func (c *covers) take() (number int) {
	c.count++
	if last := len(c.free) - 1; last >= 0 {
		number, c.free = c.free[last], c.free[:last]
		return number
	}
	c.next++
	return c.next - 1
}

// put gives the entry of a cover back that is gone. The watch is locked.
func (c *covers) put(number int) {
	c.count--
	c.free = append(c.free, number)
}

// forgetLeft takes from the count what earlier processes have made and is gone. The watch is locked.
func (c *covers) forgetLeft(gone func(dev uint64) bool) {
	for number, dev := range c.left {
		if gone(dev) {
			delete(c.left, number)
			c.put(number)
		}
	}
}

// superblockIsGone reports whether there is no superblock of this number (ustat(2)). One of another filesystem may have
// got it by now, and some architectures do not have the call: then it seems to be there.
func superblockIsGone(dev uint64) bool {
	var st unix.Ustat_t
	return unix.Ustat(int(dev), &st) == unix.EINVAL
}

// warn logs, the first time, that the container has as many as it may.
func (c *covers) warn(log *slog.Logger) {
	c.logged.Do(func() {
		log.Warn("the container has as many nodes mounted over others as it may (max_covers)", "covers", c.max)
	})
}

// watch tells when a cover's filesystem is gone: inotify has no mark on it then, and does not keep it (inotify(7),
// IN_IGNORED). All containers share one, since a user may have 128 (fs.inotify.max_user_instances).
type watch struct {
	mu      sync.Mutex
	inotify int
	marked  map[int]cover // by watch descriptor
}

// cover is one of a container's.
type cover struct {
	of     *covers
	number int // of its entry
}

// theWatch is this process's.
var theWatch = sync.OnceValues(newWatch)

func newWatch() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	return &watch{inotify: fd, marked: map[int]cover{}}, nil
}

// errTooMany is that a container has as many covers as it may.
var errTooMany = errors.New("too many nodes are mounted over others")

// newFilesystem makes the filesystem of one more cover, a detached mount, has it kept, and counts it until it is gone.
// The error is errTooMany if the container may not have it.
func (c *covers) newFilesystem(make func() (int, error), keep func(key string, value []byte) error) (int, error) {
	w, err := theWatch()
	if err != nil {
		return -1, err
	}
	number, ok, err := w.reserve(c)
	if err != nil {
		return -1, err
	}
	if !ok {
		return -1, errTooMany
	}
	fs, err := make()
	if err != nil {
		w.release(c, number)
		return -1, err
	}
	if err = w.keep(c, fs, number, keep); err == nil {
		err = w.mark(cover{c, number}, fs)
	}
	if err != nil {
		unix.Close(fs)
		w.release(c, number)
		return -1, err
	}
	return fs, nil
}

// keep keeps that there is a cover with this filesystem. What had its number before is gone.
func (w *watch) keep(c *covers, fs, number int, keep func(key string, value []byte) error) error {
	var st unix.Stat_t
	if err := unix.Fstat(fs, &st); err != nil {
		return fmt.Errorf("fstat of a cover: %w", err)
	}
	w.mu.Lock()
	c.forgetLeft(func(dev uint64) bool { return dev == uint64(st.Dev) })
	w.mu.Unlock()
	return keep(fmt.Sprintf(coverKey, number), binary.NativeEndian.AppendUint64(nil, uint64(st.Dev)))
}

// reserve counts one more cover. It is not ok if the container has as many as it may.
func (w *watch) reserve(c *covers) (number int, ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.forgetGone(); err != nil {
		return 0, false, err
	}
	if c.count >= c.max {
		c.forgetLeft(superblockIsGone)
	}
	if c.count >= c.max {
		return 0, false, nil
	}
	return c.take(), true, nil
}

// release takes back what reserve counted and mark did not mark.
func (w *watch) release(c *covers, number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.put(number)
}

// mark has a cover that was reserved counted for as long as its filesystem, whose root the descriptor is of, is there.
// Where the user's marks are too many (fs.inotify.max_user_watches) it is counted for good.
func (w *watch) mark(c cover, root int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// Only its end is of interest, which is told anyway.
	wd, err := unix.InotifyAddWatch(w.inotify, "/proc/self/fd/"+strconv.Itoa(root), unix.IN_DELETE_SELF)
	if errors.Is(err, unix.ENOSPC) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inotify_add_watch: %w", err)
	}
	w.marked[wd] = c
	return nil
}

// eventSize is that of an event without a name, as those of a filesystem's root are (struct inotify_event).
const eventSize = unix.SizeofInotifyEvent

// forgetGone takes from the counts what is gone.
func (w *watch) forgetGone() error {
	events := make([]byte, 256*eventSize)
	for {
		n, err := unix.Read(w.inotify, events)
		switch {
		case err == unix.EAGAIN:
			return nil
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("read of inotify: %w", err)
		}
		for event := events[:n]; len(event) >= eventSize; event = event[eventSize:] {
			wd, mask := int(int32(binary.NativeEndian.Uint32(event))), binary.NativeEndian.Uint32(event[4:])
			switch {
			case mask&unix.IN_Q_OVERFLOW != 0:
				if err := w.compare(); err != nil {
					return err
				}
			case mask&unix.IN_IGNORED != 0:
				w.forget(wd)
			}
		}
	}
}

func (w *watch) forget(wd int) {
	if c, ok := w.marked[wd]; ok {
		c.of.put(c.number)
		delete(w.marked, wd)
	}
}

// compare forgets what the kernel does not list any more: some events are lost.
func (w *watch) compare() error {
	path := "/proc/self/fdinfo/" + strconv.Itoa(w.inotify)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	there, err := parseMarks(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for wd := range w.marked {
		if !there[wd] {
			w.forget(wd)
		}
	}
	return nil
}

// parseMarks finds the watch descriptors in the fdinfo of an inotify (proc_pid_fdinfo(5)).
func parseMarks(info string) (map[int]bool, error) {
	marks := map[int]bool{}
	for line := range strings.Lines(info) {
		rest, ok := strings.CutPrefix(line, "inotify wd:")
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, " ")
		wd, err := strconv.ParseInt(number, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		marks[int(wd)] = true
	}
	return marks, nil
}
