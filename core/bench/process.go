package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// activity is what a process has done so far.
type activity struct {
	switches int64 // voluntary context switches: each is followed by a wake-up
	cpu      time.Duration
}

// activityOf sums up the threads of a process, but for one (proc_pid_status(5); schedstat: Documentation/scheduler/sched-stats.rst).
func activityOf(pid, but int) activity {
	var sum activity
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, thread := range threads {
		if filepath.Base(thread) == strconv.Itoa(but) {
			continue
		}
		sum.switches += statusField(thread, "voluntary_ctxt_switches")
		text, _ := os.ReadFile(thread + "/schedstat")
		var cpu int64
		fmt.Sscan(string(text), &cpu)
		sum.cpu += time.Duration(cpu)
	}
	return sum
}

// residentSize is how much memory a process has, in bytes.
func residentSize(pid int) int64 { return statusField(fmt.Sprintf("/proc/%d", pid), "VmRSS") << 10 }

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
