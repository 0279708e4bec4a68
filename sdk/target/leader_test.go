package target

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Before kernel 6.9 there is a pidfd of the group leader alone: the thread's end must be noticed all the same.
func TestThreadBehindLeader(t *testing.T) {
	end := make(chan struct{})
	behind, err := openLeader(startThread(end))
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	if behind.leader != os.Getpid() {
		t.Errorf("leader %d, want %d", behind.leader, os.Getpid())
	}
	if _, err := behind.UserNamespace(); err != nil {
		t.Error(err)
	}
	close(end)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		_, err := behind.UserNamespace()
		if errors.Is(err, os.ErrProcessDone) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the thread is gone, but: %v", err)
		}
	}
}

// startThread starts a thread that ends with the channel, and returns its id. The first thread of a Go program never ends.
func startThread(end <-chan struct{}) int {
	ids := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if id := unix.Gettid(); id != os.Getpid() {
			ids <- id
		} else {
			ids <- startThread(end)
		}
		<-end
	}()
	return <-ids
}
