package linux

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Processor returns the processor that the calling thread runs on (getcpu(2)).
func Processor() int {
	var cpu uint32
	unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	return int(cpu)
}

// KeepOn keeps the thread, or with 0 the calling one, on a processor (sched_setaffinity(2)). It does nothing where that
// is not allowed.
func KeepOn(tid, cpu int) {
	var set unix.CPUSet
	set.Set(cpu)
	unix.SchedSetaffinity(tid, &set)
}

// MoveThreadsAway is MoveAway for the threads of a process that are kept on the processor and wait for it, or have
// it. They may then run where its first thread may. It reports whether there were any. Without CAP_SYS_NICE it does
// nothing to a process of another user.
func MoveThreadsAway(pid, cpu int) (moved bool) {
	var all, set, kept unix.CPUSet
	kept.Set(cpu)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || unix.SchedGetaffinity(pid, &all) != nil {
		return false // the process is gone
	}
	for _, thread := range threads {
		tid, _ := strconv.Atoi(thread.Name())
		if unix.SchedGetaffinity(tid, &set) == nil && set == kept && IsRunnable(pid, tid) {
			MoveAway(tid, cpu, &all)
			moved = true
		}
	}
	return moved
}

// IsRunnable reports whether a thread of a process runs or waits for a processor (proc_pid_stat(5)).
func IsRunnable(pid, tid int) bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	return bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" R"))
}

// MoveAway lets a thread that is kept on a processor run on all of these. It goes to another one first: one that
// waits for its processor would otherwise go on to wait for it.
func MoveAway(tid, cpu int, all *unix.CPUSet) {
	elsewhere := *all
	elsewhere.Clear(cpu)
	unix.SchedSetaffinity(tid, &elsewhere) // fails where there is no other
	unix.SchedSetaffinity(tid, all)
}
