package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// covers counts what covers nodes of one container, until nothing of it is left in any mount namespace.
type covers struct {
	max    int
	count  int // guarded by the watch
	logged sync.Once
}

// warn logs, the first time, that the container has as many as it may.
func (c *covers) warn(container string) {
	c.logged.Do(func() {
		hclog.Default().Warn("the container has as many nodes mounted over others as it may (max_covers)", "container", container, "covers", c.max)
	})
}

// watch tells when a cover's filesystem is gone: inotify has no mark on it then, and does not keep it (inotify(7),
// IN_IGNORED). All containers share one, since a user may have 128 (fs.inotify.max_user_instances).
type watch struct {
	mu      sync.Mutex
	inotify int
	marked  map[int]*covers // by watch descriptor
}

// theWatch is this process's.
var theWatch = sync.OnceValues(newWatch)

func newWatch() (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	return &watch{inotify: fd, marked: map[int]*covers{}}, nil
}

// errTooMany is that a container has as many covers as it may.
var errTooMany = errors.New("too many nodes are mounted over others")

// newFilesystem makes the filesystem of one more cover, a detached mount, and counts it until it is gone. The error is
// errTooMany if the container may not have it.
func (c *covers) newFilesystem(make func() (int, error)) (int, error) {
	w, err := theWatch()
	if err != nil {
		return -1, err
	}
	ok, err := w.reserve(c)
	if err != nil {
		return -1, err
	}
	if !ok {
		return -1, errTooMany
	}
	fs, err := make()
	if err != nil {
		w.release(c)
		return -1, err
	}
	if err := w.mark(c, fs); err != nil {
		unix.Close(fs)
		w.release(c)
		return -1, err
	}
	return fs, nil
}

// reserve counts one more cover. It is not ok if the container has as many as it may.
func (w *watch) reserve(c *covers) (ok bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.forgetGone(); err != nil {
		return false, err
	}
	if c.count >= c.max {
		return false, nil
	}
	c.count++
	return true, nil
}

// release takes back what reserve counted and mark did not mark.
func (w *watch) release(c *covers) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.count--
}

// mark has a cover that was reserved counted for as long as its filesystem, whose root the descriptor is of, is there.
// Where the user's marks are too many (fs.inotify.max_user_watches) it is counted for good.
func (w *watch) mark(c *covers, root int) error {
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
	if c := w.marked[wd]; c != nil {
		c.count--
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
