package linux

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

// processorsOf returns those that a thread of this process may run on.
func processorsOf(t *testing.T, tid int) (set unix.CPUSet) {
	t.Helper()
	if err := unix.SchedGetaffinity(tid, &set); err != nil {
		t.Error(err)
	}
	return set
}

// isReading reports whether a thread of this process waits in read(2) for the descriptor (proc_pid_syscall(5)).
func isReading(tid, fd int) bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
	return bytes.HasPrefix(text, fmt.Appendf(nil, "%d %#x ", unix.SYS_READ, fd))
}

// Threads that want the processor that they are kept on are moved, and others are not.
func TestMoveThreadsAway(t *testing.T) {
	require.Processors(t) // of one, each thread is kept on it
	all, cpu := processorsOf(t, os.Getpid()), Processor()
	var kept unix.CPUSet
	kept.Set(cpu)

	if MoveThreadsAway(os.Getpid(), cpu) {
		t.Error("a thread was moved that was not kept")
	}
	sleeping, spinning, end := make(chan int), make(chan int), make(chan struct{})
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	GoOnThread(func() {
		KeepOn(0, cpu)
		sleeping <- unix.Gettid()
		unix.Read(pipe[0], make([]byte, 1))
		close(end)
	})
	sleeper := <-sleeping
	// Before it reads the thread may wait for the test to take its id, and then runs again.
	eventually(t, "the thread waits for the pipe", func() bool { return isReading(sleeper, pipe[0]) })
	if MoveThreadsAway(os.Getpid(), cpu) || processorsOf(t, sleeper) != kept {
		t.Error("a thread was moved that waits for something else")
	}
	GoOnThread(func() {
		KeepOn(0, cpu)
		spinning <- unix.Gettid()
		for processorsOf(t, 0) == kept {
		}
		spinning <- unix.Gettid()
	})
	spinner := <-spinning
	for !MoveThreadsAway(os.Getpid(), cpu) {
	}
	if got := processorsOf(t, spinner); got != all {
		t.Errorf("the thread may run on %v, want %v", got, all)
	}
	<-spinning
	unix.Close(pipe[1])
	<-end
	unix.Close(pipe[0])
	eventually(t, "the thread that is kept has ended", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", sleeper))
		return errors.Is(err, fs.ErrNotExist)
	})
	if MoveThreadsAway(1<<30, cpu) {
		t.Error("a thread was moved of a process that is not there")
	}
}
