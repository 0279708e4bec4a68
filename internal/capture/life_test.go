package capture

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

func TestSince(t *testing.T) {
	before := time.Now()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	since, err := Since(pid)
	if err != nil || since.Before(before.Add(-2*tick)) || since.After(time.Now()) {
		t.Errorf("process %d was started after %v and is said to live since %v, %v", pid, before, since, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if _, err := Since(pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("process %d has ended: %v", pid, err)
	}
}

// A thread ends while it is looked at.
func TestSinceThread(t *testing.T) {
	ids := make(chan int)
	end := make(chan struct{})
	linux.GoOnThread(func() {
		ids <- unix.Gettid()
		<-end
	})
	tid := <-ids
	if _, err := Since(tid); err != nil {
		t.Error(err)
	}
	close(end)
	for err := error(nil); !errors.Is(err, os.ErrProcessDone); runtime.Gosched() {
		if _, err = Since(tid); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
	}
}

// A process that has ended and is not waited for does not live.
func TestSinceZombie(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	for {
		_, err := Since(cmd.Process.Pid)
		if errors.Is(err, os.ErrProcessDone) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestParseStat(t *testing.T) {
	state, started, err := parseStat([]byte("7 (a) S (b)) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 250 20 21\n"))
	if state != 'R' || started != 2500*time.Millisecond || err != nil {
		t.Errorf("%c, %v, %v", state, started, err)
	}
	for _, bad := range []string{"", "7 (a) S 1", "7 a S 1", "7 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestIsIn(t *testing.T) {
	ids := make(chan int)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	linux.GoOnThread(func() {
		defer close(over)
		ids <- unix.Gettid()
		unix.Read(pipe[0], make([]byte, 1))
	})
	tid := <-ids
	// Where it called, and with which arguments, procfs says: what is checked is that the parts count. Before it reads
	// the thread may wait for the test to take its id.
	var c *syscall
	for c == nil || c.number != unix.SYS_READ {
		text, _ := readStart(nil, procPath(tid, "syscall"), 512)
		c = parseSyscall(text)
	}
	if c.args[0] != uint64(pipe[0]) {
		t.Fatalf("%+v", c)
	}
	if !IsIn(tid, c.number, &c.args, c.ip) {
		t.Error("it is not in its call")
	}
	other := c.args
	other[1]++
	if IsIn(tid, c.number+1, &c.args, c.ip) || IsIn(tid, c.number, &other, c.ip) || IsIn(tid, c.number, &c.args, c.ip+2) {
		t.Error("it is in another call")
	}
	unix.Close(pipe[1])
	<-over
	unix.Close(pipe[0])
	if IsIn(tid, c.number, &c.args, c.ip) {
		t.Error("it is in its call when that has ended")
	}
}

// A thread sleeps, runs, and ends.
func TestSleeper(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	ids, running, stop, over := make(chan int), make(chan struct{}), atomic.Bool{}, make(chan struct{})
	linux.GoOnThread(func() {
		defer close(over)
		ids <- unix.Gettid()
		unix.Read(pipe[0], make([]byte, 1))
		close(running)
		for !stop.Load() {
		}
	})
	s := OpenSleeper(<-ids)
	defer s.Close()
	for !s.Sleeps() {
		runtime.Gosched()
	}
	if _, err := unix.Write(pipe[1], []byte{0}); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1])
	<-running
	for s.Sleeps() { // the runtime may hold it for a moment
		runtime.Gosched()
	}
	stop.Store(true)
	<-over
	gone := OpenSleeper(1 << 30)
	defer gone.Close()
	if !gone.Sleeps() {
		t.Error("a thread that does not exist is said to run")
	}
}
