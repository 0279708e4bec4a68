package broker

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/sandbox"
	"golang.org/x/sys/unix"
)

const (
	// maxIdleWorkers bounds the workers kept for later.
	maxIdleWorkers = 4
	// minThreads is how many workers there may be at least, and how many connections.
	minThreads = 4
	// maxThreads bounds both where nothing else does: the Go runtime ends a process that has 10,000 threads.
	maxThreads = 4096
)

// crew counts the workers, because a Go program ends if the kernel refuses it a thread.
type crew struct {
	mu    sync.Mutex
	max   int
	count int
	idle  int // that wait for notifications, or are about to
}

// join counts a worker in, which is idle.
func (c *crew) join() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
	c.idle++
}

// busy counts an idle worker as busy. It reports whether another must be started because none waits. At the limit none
// is started: notifications then wait in the poller until a worker comes back to it.
func (c *crew) busy() (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle--
	return c.idle == 0 && c.count < c.max
}

// done counts a busy worker as idle, or out if enough are idle. It reports whether the worker stays.
func (c *crew) done() (stay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle >= maxIdleWorkers {
		c.count--
		return false
	}
	c.idle++
	return true
}

// findMaxThreads returns how many workers there may be with so many plugins, and as many connections. The cgroup of
// this process, or the one above it, has the plugins' below it and bounds the threads of all; RLIMIT_NPROC and a cgroup
// of its own bound those of a plugin, which has a user ID of its own. Room is left for the Go runtimes. Plugins that come
// later, and calls that hang beyond their deadlines, are not counted: nothing is known of them yet.
func findMaxThreads(plugins int) int {
	left := uint64(math.MaxInt32)
	own, _ := cgroup.OwnFolders()
	if folder, ok := own[cgroup.Hierarchy(own, "pids")]; ok {
		left = tasksLeft(folder)
	}
	most := uint64(sandbox.DefaultTasks)
	var processes unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &processes) == nil {
		most = min(most, processes.Cur)
	}
	room := 2*runtime.GOMAXPROCS(0) + 16
	n := min(threadsWithin(int(left)-room, plugins), (int(most)-room)/2)
	return min(max(n, minThreads), maxThreads)
}

// threadsWithin returns how many workers, and as many connections, fit into so many tasks. Each is a thread here, and
// one of a plugin while a call is handled. A plugin also keeps the threads of idle lanes, as many at most as there were
// at once.
func threadsWithin(tasks, plugins int) int {
	if n := tasks / (2*2 + 2*plugins); 2*n < lane.MaxIdleLanes {
		return n
	}
	return (tasks - lane.MaxIdleLanes*plugins) / (2 * 2)
}

// tasksLeft returns how many more tasks a cgroup can have, by its limit and those above it (pids.max).
func tasksLeft(own cgroup.Folder) uint64 {
	left := uint64(math.MaxInt32)
	for _, folder := range own.Upwards() {
		limit, err := readNumber(filepath.Join(folder, "pids.max"))
		if err != nil {
			continue // "max", or no limit here
		}
		current, err := readNumber(filepath.Join(folder, "pids.current"))
		if err == nil {
			left = min(left, limit-min(limit, current))
		}
	}
	return left
}

func readNumber(name string) (uint64, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 31)
}
