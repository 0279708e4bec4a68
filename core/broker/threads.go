package broker

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/sandbox"
	"golang.org/x/sys/unix"
)

const (
	// minThreads is how many workers there may be at least, and how many connections.
	minThreads = 4
	// maxRooms bounds the private processes of plugins, of about 20 MiB each.
	maxRooms = 8
	// threadsPerRoom is how many threads a private process of a plugin has, beside those that calls need anyway.
	threadsPerRoom = 32
	// maxThreads bounds both where nothing else does: the Go runtime ends a process that has 10,000 threads.
	maxThreads = 4096
)

// findMaxThreads returns how many workers there may be with so many plugins and private processes of plugins, and as
// many connections. Room is left for the Go runtimes. Plugins that come later, and calls that hang beyond their
// deadlines, are not counted: nothing is known of them yet.
func findMaxThreads(plugins, rooms, descriptors int) int {
	left, most := findTasks()
	room := 2*runtime.GOMAXPROCS(0) + 16 + rooms*threadsPerRoom
	n := min(threadsWithin(left-room, plugins), (most-room)/2, workersWithin(descriptors))
	return min(max(n, minThreads), maxThreads)
}

// findTasks returns how many more threads there may be. The cgroup of this process, or the one above it, has the
// plugins' below it and bounds the threads of all; RLIMIT_NPROC and a cgroup of its own bound those of a plugin,
// which has a user ID of its own.
func findTasks() (left, ofPlugin int) {
	left, ofPlugin = math.MaxInt32, sandbox.DefaultTasks
	own, _ := cgroup.OwnFolders()
	if folder, ok := own[cgroup.Hierarchy(own, "pids")]; ok {
		left = int(tasksLeft(folder))
	}
	var processes unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &processes) == nil {
		ofPlugin = int(min(processes.Cur, uint64(ofPlugin)))
	}
	return left, ofPlugin
}

// MaxRooms returns how many containers can have processes of plugins for themselves, see launcher.Rooms. They get a
// part of the threads and descriptors that there are.
func MaxRooms() int {
	left, ofPlugin := findTasks()
	return min(maxRooms, left/(5*threadsPerRoom), ofPlugin/(5*threadsPerRoom), descriptorLimit()/512)
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
