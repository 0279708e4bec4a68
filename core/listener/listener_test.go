package listener

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	testcaller.Init()
	os.Exit(m.Run())
}

func newPoller(t *testing.T) *Poller {
	t.Helper()
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p
}

// attach adds the listener of a new container.
func attach(t *testing.T, p *Poller, data any) (*testcaller.Caller, *Listener) {
	t.Helper()
	c := testcaller.Start(t, 0)
	l, err := p.Add(c.Listener(t, unix.SYS_GETPPID), data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return c, l
}

// event waits for one.
func event(t *testing.T, p *Poller, want *Listener, hangup bool) {
	t.Helper()
	got, hung, err := p.Wait()
	if err != nil || got != want || hung != hangup {
		t.Fatalf("got %p, %v, %v, want %p, %v", got, hung, err, want, hangup)
	}
	got.Release()
}

// silent checks that no event is there: the poller's close is the next.
func silent(t *testing.T, p *Poller) {
	t.Helper()
	p.Close()
	for range 2 {
		if l, _, err := p.Wait(); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, %v", l, err)
		}
	}
}

func TestEvents(t *testing.T) {
	p := newPoller(t)
	c, l := attach(t, p, "data")
	if l.Data() != "data" {
		t.Errorf("data %v", l.Data())
	}
	call := c.Go(unix.SYS_GETPPID)
	if err := l.Arm(); err != nil {
		t.Fatal(err)
	}
	event(t, p, l, false)
	var n notify.Notification
	if err := l.Receive(&n); err != nil {
		t.Fatal(err)
	}
	if err := l.SendValue(n.ID, 5); err != nil {
		t.Fatal(err)
	}
	if r := testcaller.Await(t, call); r.Value != 5 {
		t.Errorf("the caller got %+v", r)
	}
	if err := l.Arm(); err != nil {
		t.Fatal(err)
	}
	c.Kill()
	event(t, p, l, true)
	silent(t, p)
}

// An event is pending from its arrival until it is taken.
func TestPending(t *testing.T) {
	p := newPoller(t)
	c, l := attach(t, p, nil)
	c.Go(unix.SYS_GETPPID)
	if pending, _, err := l.Poll(-1); !pending || err != nil {
		t.Fatal(err)
	}
	if p.Pending() {
		t.Error("an event of a listener that is not armed")
	}
	l.Arm()
	for range 2 {
		if !p.Pending() {
			t.Error("no event")
		}
	}
	event(t, p, l, false)
	if p.Pending() {
		t.Error("an event that was taken")
	}
	p.Close()
	p.Release()
	if p.Pending() {
		t.Error("an event of a poller that is closed")
	}
}

// TestUnarmed checks that a listener is silent until it is armed, and after each event.
func TestUnarmed(t *testing.T) {
	for name, arm := range map[string]bool{"at first": false, "after an event": true} {
		t.Run(name, func(t *testing.T) {
			p := newPoller(t)
			c, l := attach(t, p, nil)
			call := c.Go(unix.SYS_GETPPID)
			if arm {
				l.Arm()
				event(t, p, l, false) // the notification stays where it is
			} else if pending, _, err := l.Poll(-1); !pending || err != nil {
				t.Fatal(err)
			}
			silent(t, p)
			l.Close()
			if r := testcaller.Await(t, call); r.Errno != unix.ENOSYS {
				t.Errorf("the caller got %+v", r)
			}
		})
	}
}

// TestDeadBeforeArm has a process that is gone before its listener is armed, or even added.
func TestDeadBeforeArm(t *testing.T) {
	for name, added := range map[string]bool{"added": true, "not added": false} {
		t.Run(name, func(t *testing.T) {
			p := newPoller(t)
			c := testcaller.Start(t, 0)
			file := c.Listener(t, unix.SYS_GETPPID)
			if !added {
				c.Kill()
			}
			l, err := p.Add(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if added {
				c.Kill()
			}
			if err := l.Arm(); err != nil {
				t.Fatal(err)
			}
			event(t, p, l, true)
		})
	}
}

// TestHoldOutlivesClose answers a call of a listener that is closed already, and only then gives it back.
func TestHoldOutlivesClose(t *testing.T) {
	p := newPoller(t)
	c, l := attach(t, p, nil)
	call := c.Go(unix.SYS_GETPPID)
	l.Arm()
	held, _, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	var n notify.Notification
	if err := l.Receive(&n); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Close()
	if err := l.Arm(); err != nil {
		t.Errorf("arming a closed listener: %v", err)
	}
	if !l.Valid(n.ID) {
		t.Error("the descriptor is closed")
	}
	if err := l.SendValue(n.ID, 6); err != nil {
		t.Error(err)
	}
	if r := testcaller.Await(t, call); r.Value != 6 {
		t.Errorf("the caller got %+v", r)
	}
	held.Release()
	if r := c.Call(t, unix.SYS_GETPPID); r.Errno != unix.ENOSYS {
		t.Errorf("a later call got %+v", r)
	}
	silent(t, p)
}

func TestAddRefused(t *testing.T) {
	p := newPoller(t)
	file, err := os.Open("listener.go") // epoll takes no files
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Add(file, nil); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
	if err := file.Close(); err != nil {
		t.Errorf("the file is the caller's: %v", err)
	}
}

// TestCloseWakes has many threads wait.
func TestCloseWakes(t *testing.T) {
	p := newPoller(t)
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if _, _, err := p.Wait(); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
	}
	p.Close()
	waiting.Wait()
}

// TestSignals has signals come all the time, as the Go runtime sends them to its threads: none is taken for a hangup.
func TestSignals(t *testing.T) {
	p := newPoller(t)
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 2 {
		tid := make(chan int)
		running.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid <- unix.Gettid()
			for {
				l, hangup, err := p.Wait()
				if err != nil {
					return
				}
				if hangup {
					t.Error("hangup")
					return
				}
				var n notify.Notification
				if err := l.Receive(&n); err != nil {
					t.Error(err)
				}
				l.Arm()
				l.SendValue(n.ID, 0)
				l.Release()
			}
		})
		waiting := <-tid
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					unix.Tgkill(os.Getpid(), waiting, unix.SIGURG)
				}
			}
		})
	}
	c, l := attach(t, p, nil)
	l.Arm()
	for range 50 {
		var results []<-chan testcaller.Result
		for range 20 {
			results = append(results, c.Go(unix.SYS_GETPPID))
		}
		for _, result := range results {
			if r := testcaller.Await(t, result); r.Errno != 0 {
				t.Fatalf("the caller got %+v", r)
			}
		}
	}
	close(stop)
	p.Close()
	running.Wait()
}

// TestManyWaiters has many threads take the calls of several containers: each call is received once.
func TestManyWaiters(t *testing.T) {
	p := newPoller(t)
	const containers, calls = 4, 100
	var receiving sync.WaitGroup
	for range 8 {
		receiving.Go(func() {
			for {
				l, hangup, err := p.Wait()
				if err != nil {
					return
				}
				var n notify.Notification
				if hangup {
					t.Error("hangup")
				} else if err := l.Receive(&n); err != nil {
					t.Error(err)
				}
				l.Arm()
				if err := l.SendValue(n.ID, int64(n.Args[1])); err != nil {
					t.Error(err)
				}
				l.Release()
			}
		})
	}
	var results [containers][calls]<-chan testcaller.Result
	for i := range containers {
		c, l := attach(t, p, nil)
		l.Arm()
		for j := range calls {
			results[i][j] = c.Go(unix.SYS_GETPPID, 0, uint64(i*calls+j))
		}
	}
	for i := range results {
		for j, result := range results[i] {
			if r := testcaller.Await(t, result); r.Value != int64(i*calls+j) || r.Errno != 0 {
				t.Errorf("call %d of container %d got %+v", j, i, r)
			}
		}
	}
	p.Close()
	receiving.Wait()
}
