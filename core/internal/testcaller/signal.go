package testcaller

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Interrupt sends a signal, whose handler has calls restarted, to the threads of the process that are in this call. It
// waits for one: a thread whose notification has been received may not have gone to sleep yet.
func (c *Caller) Interrupt(t testing.TB, nr uintptr) {
	t.Helper()
	tids := c.InCall(t, nr)
	for end := time.Now().Add(Timeout); len(tids) == 0; tids = c.InCall(t, nr) {
		if time.Now().After(end) {
			t.Fatal("testcaller: no thread is in the call")
		}
		time.Sleep(time.Millisecond)
	}
	for _, tid := range tids {
		if err := unix.Tgkill(c.PID, tid, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
}

// InCall gives the threads of the process that are in this call.
func (c *Caller) InCall(t testing.TB, nr uintptr) (tids []int) {
	t.Helper()
	for _, tid := range c.threads(t) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", c.PID, tid))
		if strings.HasPrefix(string(text), strconv.Itoa(int(nr))+" ") {
			tids = append(tids, tid)
		}
	}
	return tids
}

// Stop stops the process (SIGSTOP), and waits until it has stopped: its threads have been taken out of their calls.
func (c *Caller) Stop(t testing.TB) {
	t.Helper()
	c.signal(t, unix.SIGSTOP)
	for end := time.Now().Add(Timeout); ; time.Sleep(time.Millisecond) {
		stopped := true
		for _, tid := range c.threads(t) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", c.PID, tid))
			stopped = stopped && (err != nil || strings.Contains(string(text), ") T "))
		}
		if stopped {
			return
		}
		if time.Now().After(end) {
			t.Fatal("testcaller: the process does not stop")
		}
	}
}

// Continue has a stopped process go on.
func (c *Caller) Continue(t testing.TB) {
	t.Helper()
	c.signal(t, unix.SIGCONT)
}

func (c *Caller) signal(t testing.TB, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(c.PID, s); err != nil {
		t.Fatal(err)
	}
}

func (c *Caller) threads(t testing.TB) (tids []int) {
	t.Helper()
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", c.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if tid, err := strconv.Atoi(filepath.Base(path)); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}
