package capture

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc: USER_HZ is 100 on amd64 and arm64 (include/asm-generic/param.h).
const tick = 10 * time.Millisecond

// Since returns since when the living thread tid has had its id. A thread that was known by that id later is this one,
// or was in its place before it executed a program (de_thread, fs/exec.c). The error wraps os.ErrProcessDone if there
// is no such thread.
//
// The thread's process can hold up who calls this, IsIn or Sleeps: while it executes a program, another thread takes
// the first one's id, and descriptors are closed, for which a filesystem that the container serves may be asked
// (exec_update_lock, begin_new_exec in fs/exec.c). So hold no lock that other containers' calls need.
//
// Start times (proc_pid_stat(5)) are rounded down to ticks of 10 ms, and the clock may have gone on by one millisecond
// since it was read. That an id is another thread's before that is over does not happen: the kernel gives all other ids
// first (alloc_pid, kernel/pid.c).
func Since(tid int) (time.Time, error) {
	stat, errno := readStart(nil, procPath(tid, "stat"), statSize)
	if errno != 0 {
		return time.Time{}, ProcessError(fmt.Errorf("stat of thread %d: %w", tid, errno))
	}
	state, started, err := parseStat(stat)
	if err != nil {
		return time.Time{}, fmt.Errorf("stat of thread %d: %w", tid, err)
	}
	if state == 'Z' || state == 'X' {
		return time.Time{}, fmt.Errorf("thread %d: %w", tid, os.ErrProcessDone)
	}
	now, sinceBoot := linux.ReadClock(unix.CLOCK_BOOTTIME)
	return now.Add(started - sinceBoot), nil
}

// statSize is more than a stat file has, in bytes: 52 fields.
const statSize = 2048

// parseStat reads the state and the start time since boot from the text of /proc/TID/stat (proc_pid_stat(5)). The
// thread chooses its name, which may have parentheses and spaces.
func parseStat(stat []byte) (state byte, started time.Duration, err error) {
	const stateAt, startAt = 0, 19 // of the fields that follow the name
	end := bytes.LastIndexByte(stat, ')')
	fields := bytes.Fields(stat[end+1:])
	if end < 0 || len(fields) <= startAt {
		return 0, 0, fmt.Errorf("%q is not what it should be", stat)
	}
	ticks, err := strconv.ParseInt(string(fields[startAt]), 10, 64)
	return fields[stateAt][0], time.Duration(ticks) * tick, err
}

// IsIn reports whether the thread is still in the system call of this number and these arguments that was made at the
// address ip, or at the same call again (proc_pid_syscall(5)). A thread that a signal has taken out of a call is in it
// until it runs again in its program: as long as it is stopped (SIGSTOP), or frozen (cgroups(7)).
func IsIn(tid int, number int32, args *[6]uint64, ip uint64) bool {
	text, errno := readStart(nil, procPath(tid, "syscall"), 512)
	if errno != 0 {
		return false
	}
	now := parseSyscall(text)
	return now != nil && now.number == number && now.args == *args && now.ip == ip
}

// syscall is what /proc/TID/syscall says of a thread that is in a system call.
type syscall struct {
	number int32
	args   [6]uint64
	sp, ip uint64
}

// parseSyscall returns nil for a thread that is in none, or that runs.
func parseSyscall(text []byte) *syscall {
	var s syscall
	n, _ := fmt.Sscanf(string(text), "%d %v %v %v %v %v %v %v %v", &s.number, &s.args[0], &s.args[1], &s.args[2], &s.args[3],
		&s.args[4], &s.args[5], &s.sp, &s.ip)
	if n != 9 {
		return nil
	}
	return &s
}

// Sleeper is a thread that may sleep in a system call.
type Sleeper struct{ fd int }

// OpenSleeper begins to look at a thread.
func OpenSleeper(tid int) Sleeper {
	fd, errno := openFile(procPath(tid, "stat"), unix.O_RDONLY)
	if errno != 0 {
		return Sleeper{-1}
	}
	return Sleeper{fd}
}

// Sleeps reports whether the thread slept two microseconds ago, in a wait that signals end (proc_pid_stat(5)): it
// does not while it is on its way to sleep, nor once a signal has woken it up. One that cannot be looked at counts as
// asleep. /proc/TID/syscall would tell it sooner, but waits for a thread that gets no processor (wait_task_inactive,
// kernel/sched/core.c).
func (s Sleeper) Sleeps() bool {
	var stat [statSize]byte
	n, err := unix.Pread(s.fd, stat[:], 0)
	if err != nil {
		return true
	}
	_, fields, found := bytes.Cut(stat[max(bytes.LastIndexByte(stat[:n], ')'), 0):n], []byte(") "))
	return !found || bytes.HasPrefix(fields, []byte("S"))
}

// Close ends the look at the thread.
func (s Sleeper) Close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
}
