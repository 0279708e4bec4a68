package target_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// standing says where the calling thread stands, and its umask.
func standing(t *testing.T) (text string) {
	t.Helper()
	for _, name := range []string{"root", "cwd", "ns/mnt"} {
		link, err := os.Readlink("/proc/thread-self/" + name)
		if err != nil {
			t.Error(err)
		}
		text += link + " "
	}
	umask := unix.Umask(0)
	unix.Umask(umask)
	return fmt.Sprintf("%s%#o", text, umask)
}

func TestUseThread(t *testing.T) {
	_, _, parked := park(t, "umask 0137", "chdir /tmp")
	done := make(chan struct{})
	target.GoOnThread(func() {
		defer close(done)
		own, err := target.NewThread()
		if err != nil {
			t.Error(err)
			return
		}
		parked.UseThread(own)
		before, tid := standing(t), unix.Gettid()
		for range 3 {
			var here, elsewhere int
			err := parked.Do(0, func() error {
				here = unix.Gettid()
				if directory, err := unix.Getwd(); err != nil || directory != "/tmp" {
					t.Errorf("in %q, %v", directory, err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			other := make(chan struct{})
			go func() {
				defer close(other)
				parked.Do(0, func() error { elsewhere = unix.Gettid(); return nil })
			}()
			<-other
			if here != tid || elsewhere == tid || elsewhere == 0 {
				t.Errorf("on thread %d, from elsewhere on %d; the own is %d", here, elsewhere, tid)
			}
		}
		func() {
			defer func() { recover() }()
			parked.Do(0, func() error { panic("ouch") })
		}()
		if after := standing(t); after != before || own.Spoiled() {
			t.Errorf("at %s, before at %s", after, before)
		}
	})
	<-done
}

// The first thread is left alone, however many goroutines ask for a thread.
func TestGoOnThread(t *testing.T) {
	ids, end := make(chan int), make(chan struct{})
	seen := map[int]bool{}
	for range 50 {
		target.GoOnThread(func() {
			ids <- unix.Gettid()
			<-end
		})
	}
	for range 50 {
		id := <-ids
		if id == os.Getpid() || seen[id] {
			t.Errorf("thread %d", id)
		}
		seen[id] = true
	}
	close(end)
}
