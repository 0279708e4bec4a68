package capture

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Before kernel 6.9 there is a pidfd of the group leader alone: the thread's end must be noticed all the same.
func TestThreadBehindLeader(t *testing.T) {
	ids, end := make(chan int), make(chan struct{})
	linux.GoOnThread(func() {
		ids <- unix.Gettid()
		<-end
	})
	behind, err := openByLeader(<-ids)
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	if behind.leader != os.Getpid() {
		t.Errorf("leader %d, want %d", behind.leader, os.Getpid())
	}
	if err := behind.Alive(); err != nil {
		t.Error(err)
	}
	close(end)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		err := behind.Alive()
		if errors.Is(err, os.ErrProcessDone) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the thread is gone, but: %v", err)
		}
	}
}
