package capture

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// began is before any thread but the first of the test's process.
var began = time.Now()

func TestSince(t *testing.T) {
	ids := make(chan int)
	end := make(chan struct{})
	linux.GoOnThread(func() {
		ids <- unix.Gettid()
		<-end
	})
	tid := <-ids
	if since, err := Since(tid); err != nil || since.After(time.Now()) || since.Before(began.Add(-tick)) {
		t.Errorf("it has been there since %v, %v; the test since %v", since, err, began)
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
	// Where it called, and with which arguments, procfs says: what is checked is that the parts count.
	var text []byte
	for len(text) == 0 || text[0] == 'r' {
		text, _ = readStart(nil, procPath(tid, "syscall"), 512)
	}
	c := parseSyscall(text)
	if c == nil || c.number != unix.SYS_READ || c.args[0] != uint64(pipe[0]) {
		t.Fatalf("%q: %+v", text, c)
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
