package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// idleTime is how long nothing happens while wake-ups are counted.
	idleTime = 3 * time.Second
	// settleTime without a wake-up comes before it, or at most maxSettle: the Go runtime collects for a while what
	// was in use.
	settleTime = time.Second
	maxSettle  = 10 * time.Second
)

// activity is what a process has done so far, or in some time.
type activity struct {
	Switches int64         // voluntary context switches: each is followed by a wake-up
	CPU      time.Duration // of the processor
	RSS      int64         // bytes, now
}

// Watch watches processes in which nothing happens, and writes what they do all the same as a JSON list. It is another
// process that watches: this one's looks would be seen in its own figures.
func Watch(pids []int, out io.Writer) error {
	for began := time.Now(); time.Since(began) < maxSettle; {
		if !slices.ContainsFunc(activitiesIn(pids, settleTime), func(a activity) bool { return a.Switches > 0 }) {
			break
		}
	}
	return json.NewEncoder(out).Encode(activitiesIn(pids, idleTime))
}

// activitiesIn is what the processes do in the time to come.
func activitiesIn(pids []int, during time.Duration) []activity {
	did := make([]activity, len(pids))
	for i, pid := range pids {
		did[i] = activityOf(pid)
	}
	time.Sleep(during)
	for i, pid := range pids {
		now := activityOf(pid)
		did[i] = activity{now.Switches - did[i].Switches, now.CPU - did[i].CPU, now.RSS}
	}
	return did
}

// activityOf sums up the threads of a process (proc_pid_status(5); Documentation/scheduler/sched-stats.rst).
func activityOf(pid int) activity {
	sum := activity{RSS: statusField(fmt.Sprintf("/proc/%d", pid), "VmRSS") << 10}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, thread := range threads {
		sum.Switches += statusField(thread, "voluntary_ctxt_switches")
		text, _ := os.ReadFile(thread + "/schedstat")
		var cpu int64
		fmt.Sscan(string(text), &cpu)
		sum.CPU += time.Duration(cpu)
	}
	return sum
}

// statusField is a number of a status file; 0 if it is not there.
func statusField(dir, key string) int64 {
	text, _ := os.ReadFile(dir + "/status")
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(name) != key {
			continue
		}
		var n int64
		fmt.Sscan(string(value), &n)
		return n
	}
	return 0
}
