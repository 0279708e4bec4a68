package keep

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

func init() { roles["fallback"] = fallbackAlone }

// fallbackAlone is a fallback that nobody has left anything yet, as systemd starts it.
func fallbackAlone() {
	after, _ := time.ParseDuration(os.Getenv(answerVariable))
	options := FallbackOptions{Path: testPath("fallback"), AnswerAfter: after, Journal: testPath("journal"), Log: testLog()}
	if err := RunFallback(options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startFallback starts a fallback beside a manager that takes what it is sent, and sets the variables of a broker.
func startFallback(t *testing.T, after string) (ended <-chan error) {
	t.Helper()
	socket := newQueue(t)
	timeout := unix.NsecToTimeval(int64(time.Hour))
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			_, fds, err := linux.Receive(socket, make([]byte, maxMessage), 1)
			linux.CloseAll(fds...)
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		unix.Shutdown(socket, unix.SHUT_RDWR)
		<-over
	})
	dir := shortDir(t)
	path := filepath.Join(dir, "fallback")
	listening, err := bindFallback(path)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(listening), "socket")
	defer file.Close()
	cmd := &exec.Cmd{
		Path: self, Args: []string{starterName, "0", self, self}, Stderr: os.Stderr, ExtraFiles: []*os.File{file},
		Env: append(os.Environ(), roleVariable+"=fallback", dirVariable+"="+dir, answerVariable+"="+after, listenPID+"="+selfPID, listenFDs+"=1"),
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done, gone := make(chan error, 1), make(chan struct{})
	go func() {
		done <- cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-gone
	})
	t.Setenv(fallbackVariable, path)
	return done
}

// answerOne is a broker that answers one call with the value.
func answerOne(t *testing.T, l notify.FD, value int64) {
	t.Helper()
	var n notify.Notification
	if err := l.Receive(&n); err != nil {
		t.Fatal(err)
	}
	if err := l.SendValue(n.ID, value); err != nil {
		t.Fatal(err)
	}
}

// TestFallback has a fallback answer for a broker that stops and for one that does not become ready, and give up what
// it has to one that does.
func TestFallback(t *testing.T) {
	ended := startFallback(t, "100ms")
	caller := testcaller.Start(t, 0)
	listener := caller.Listener(t, unix.SYS_GETPPID)
	defer listener.Close()
	l := notify.FD(listener.Fd())
	inKernel := func(when string) {
		t.Helper()
		if r := caller.Call(t, unix.SYS_GETPPID); r.Errno != 0 || r.Value != 0 {
			t.Errorf("%s the call returned %+v", when, r)
		}
	}

	first := open(t)
	if err := errors.Join(first.Put("listener.1.2", int(l)), first.Put("namespace.1", 0), first.Leave()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // more than AnswerAfter: it must not answer for a broker that is still there
	result := caller.Go(unix.SYS_GETPPID)
	answerOne(t, l, 7)
	if r := testcaller.Await(t, result); r.Value != 7 {
		t.Errorf("beside a broker that stops the call returned %+v", r)
	}
	first.fallback.close()
	inKernel("after the broker's end")

	second := open(t) // finds nothing in the manager's store, takes long, and ends
	inKernel("while the next broker starts")
	taken, err := second.TakeOver(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(taken, func(a, b Descriptor) int { return cmp.Compare(a.Name, b.Name) })
	if len(taken) != 2 || taken[0].Name != "listener.1.2" || taken[1].Name != "namespace.1" {
		t.Fatalf("taken: %v", taken)
	}
	second.fallback.close()
	closeAll(taken)
	inKernel("after a broker that did not become ready")

	third := open(t)
	if taken, err = third.TakeOver(t.Context(), nil); err != nil || len(taken) != 2 {
		t.Fatalf("taken: %v, %v", taken, err)
	}
	defer closeAll(taken)
	slices.SortFunc(taken, func(a, b Descriptor) int { return cmp.Compare(a.Name, b.Name) })
	result = caller.Go(unix.SYS_GETPPID)
	answerOne(t, notify.FD(taken[0].File.Fd()), 9)
	if r := testcaller.Await(t, result); r.Value != 9 {
		t.Errorf("under the third broker the call returned %+v", r)
	}
	if third.Count() != 2 {
		t.Errorf("%d descriptors are in the store", third.Count())
	}
	if err := third.Notify(Ready); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the fallback: %v", err)
	}
}

// TestFallbackOfWhatIsInherited answers for a broker that inherits listeners and does not take them over.
func TestFallbackOfWhatIsInherited(t *testing.T) {
	startFallback(t, "100ms")
	caller := testcaller.Start(t, 0)
	listener := caller.Listener(t, unix.SYS_GETPPID)
	defer listener.Close()
	open(t, Descriptor{"listener.1.2", listener})
	for range 10 {
		if r := caller.Call(t, unix.SYS_GETPPID); r.Errno != 0 || r.Value != 0 {
			t.Errorf("the call returned %+v", r)
		}
	}
}
