package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

// tally counts errors.
func tally(lines []sdktest.Line) map[unix.Errno]int {
	counts := map[unix.Errno]int{}
	for _, l := range lines {
		counts[l.Errno]++
	}
	return counts
}

// TestManyThreads make nodes of different names, and of one name, in the rootfs and where nodes are covered.
func TestManyThreads(t *testing.T) {
	const threads, each = 16, 8
	for name, setup := range map[string][]string{
		"rootfs":    {"mkdir /tmp/d", "chdir /tmp/d"},
		"own-tmpfs": {"mount tmpfs none /mnt 0 -", "chdir /mnt"},
		"by-power":  {"do mkdir s:/tmp/e 0700", "do chown s:/tmp/e 5 5", "chdir /tmp/e"},
	} {
		t.Run(name, func(t *testing.T) {
			c := sdktest.NewContainer(t, handler{})
			lines := c.Call(t, append(setup, "threads "+strconv.Itoa(threads), "repeat "+strconv.Itoa(each), "sys mknod s:%i"+null)...).Lines(t)
			if got := tally(lines); got[0] != threads*each {
				t.Errorf("different names: %v", got)
			}
			lines = c.Call(t, setup[len(setup)-1], "threads "+strconv.Itoa(threads), "sys mknod s:same"+null).Lines(t)
			if got := tally(lines); got[0] != 1 || got[unix.EEXIST] != threads-1 {
				t.Errorf("one name: %v", got)
			}
		})
	}
}

func TestManyProcesses(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	program := c.Install(t, sdktest.Caller(t))
	var processes []*sdktest.Process
	for i := range 16 {
		processes = append(processes, c.Start(t, program, "sys mknod s:/tmp/same"+null, "sys mknod s:/tmp/"+strconv.Itoa(i)+null))
	}
	made := 0
	for _, p := range processes {
		lines := p.Wait(t).Lines(t)
		if lines[0].Errno == 0 {
			made++
		} else if lines[0].Errno != unix.EEXIST {
			t.Errorf("the one name: %v", lines[0].Errno)
		}
		if lines[1].Errno != 0 {
			t.Errorf("a name of its own: %v", lines[1].Errno)
		}
	}
	if made != 1 {
		t.Errorf("%d of %d made the one node", made, len(processes))
	}
}

// held is the plugin with a handler that waits, before its work or after it.
type held struct {
	handler
	before, after func(context.Context)
}

func (h held) Attach(ctx context.Context, c sdk.Container, s sdk.Settings) (sdk.Session, error) {
	inner, err := h.handler.Attach(ctx, c, s)
	return heldSession{inner, h}, err
}

type heldSession struct {
	sdk.Session
	held held
}

func (s heldSession) Handle(ctx context.Context, req *sdk.Request) (sdk.Response, error) {
	s.held.before(ctx)
	defer s.held.after(ctx)
	return s.Session.Handle(ctx, req)
}

// TestCallerKilled kills the caller before the plugin works, and between its work and the answer. The latter leaves what
// the kernel's own mknod(2) would: the node.
func TestCallerKilled(t *testing.T) {
	for name, setup := range map[string][]string{"rootfs": {"chdir /tmp"}, "own-tmpfs": {"mount tmpfs none /mnt 0 -", "chdir /mnt"}} {
		for _, when := range []string{"before", "after"} {
			t.Run(name+"-"+when, func(t *testing.T) {
				entered := make(chan struct{})
				var once sync.Once
				untilKilled := func(ctx context.Context) {
					once.Do(func() {
						close(entered)
						<-ctx.Done()
					})
				}
				h := held{before: func(context.Context) {}, after: func(context.Context) {}}
				want := map[string]string{"before": "ENOENT ok", "after": "ok EEXIST"}[when]
				if when == "before" {
					h.before = untilKilled
				} else {
					h.after = untilKilled
				}
				c := sdktest.NewContainer(t, h)
				p := c.Start(t, c.Install(t, sdktest.Caller(t)), append(setup, "sys mknod s:n"+null)...)
				<-entered
				p.Kill(t)
				if result := p.Wait(t); result.Signal != unix.SIGKILL {
					t.Errorf("the caller ended by %v", result.Signal)
				}
				if got := sdktest.Errnos(c.Call(t, setup[len(setup)-1], "stat n", "sys mknod s:n"+null).Lines(t)); got != want {
					t.Errorf("afterwards: %s, want %s", got, want)
				}
			})
		}
	}
}

// swap exchanges two names of the host until the returned function is called, which returns when it is over.
func swap(t *testing.T, a, b string) (stop func()) {
	t.Helper()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("exchange %s and %s: %v", a, b, err)
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// TestSwappedDirectory exchanges a directory that the caller may write by its power with one of the host, while nodes are
// made in it: none may come to lie in the host's.
func TestSwappedDirectory(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	mine := filepath.Join(c.Rootfs(), hostDirectory(t, c, "mine", sdktest.HostID+5, sdktest.HostID+5, 0o700))
	hosts := filepath.Join(c.Rootfs(), hostDirectory(t, c, "hosts", 0, 0, 0o755))
	stop := swap(t, mine, hosts)
	lines := c.Call(t, "repeat 40", "sys mknod s:/tmp/mine/%i"+null).Lines(t)
	stop()
	counts := tally(lines)
	if counts[0]+counts[unix.EACCES] != len(lines) {
		t.Errorf("got %v", counts)
	}
	found := 0
	for _, dir := range []string{mine, hosts} {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			t.Fatal(err)
		}
		nodes := entries(t, dir) - 1 // old
		if st.Uid == 0 && nodes != 0 {
			t.Errorf("%d nodes are in the host's directory", nodes)
		}
		found += nodes
	}
	if found != counts[0] {
		t.Errorf("%d nodes, %d calls succeeded", found, counts[0])
	}
}

// TestSwappedLink exchanges a link to a directory of the caller with one to a descriptor of the plugin, in the host's
// procfs, and one to a directory of the host that is closed to the caller.
func TestSwappedLink(t *testing.T) {
	outside := t.TempDir()
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	number := descriptorOf(t, outside)
	for name, target := range map[string]string{"descriptor": "/mnt/host/self/fd/" + strconv.Itoa(number), "own-descriptor": "/proc/self/fd/" + strconv.Itoa(number),
		"closed": "/tmp/closed"} {
		t.Run(name, func(t *testing.T) {
			c := sdktest.NewContainer(t, handler{}, sdktest.WithMount(sdktest.HostProcfs(t), "/mnt/host"))
			closed := filepath.Join(c.Rootfs(), hostDirectory(t, c, "closed", 0, 0, 0o700))
			mine := filepath.Join(c.Rootfs(), hostDirectory(t, c, "mine", sdktest.HostID+5, sdktest.HostID+5, 0o700))
			links := filepath.Join(c.Rootfs(), hostDirectory(t, c, "links", sdktest.HostID, sdktest.HostID, 0o755))
			if err := errors.Join(os.Symlink("/tmp/mine", links+"/a"), os.Symlink(target, links+"/b")); err != nil {
				t.Fatal(err)
			}
			stop := swap(t, links+"/a", links+"/b")
			lines := c.Call(t, "repeat 40", "sys mknod s:/tmp/links/a/%i"+null).Lines(t)
			stop()
			counts := tally(lines)
			if counts[0]+counts[unix.EACCES]+counts[unix.ENOENT] != len(lines) {
				t.Errorf("got %v", counts)
			}
			if nodes := entries(t, mine) - 1; nodes != counts[0] {
				t.Errorf("%d nodes, %d calls succeeded", nodes, counts[0])
			}
			if entries(t, closed) != 1 || entries(t, outside) != 0 {
				t.Errorf("%d files in the closed directory, %d outside", entries(t, closed)-1, entries(t, outside))
			}
		})
	}
}
