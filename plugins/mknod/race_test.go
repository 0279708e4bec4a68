package mknod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/sdktest"
	"golang.org/x/sys/unix"
)

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
			if got := sdktest.Tally(lines); got[0] != threads*each {
				t.Errorf("different names: %v", got)
			}
			lines = c.Call(t, setup[len(setup)-1], "threads "+strconv.Itoa(threads), "sys mknod s:same"+null).Lines(t)
			if got := sdktest.Tally(lines); got[0] != 1 || got[unix.EEXIST] != threads-1 {
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

// TestCallerKilled kills the caller between the plugin's work and the answer. That leaves what the kernel's own
// mknod(2) would: the node.
func TestCallerKilled(t *testing.T) {
	for name, setup := range map[string][]string{"rootfs": {"chdir /tmp"}, "own-tmpfs": {"mount tmpfs none /mnt 0 -", "chdir /mnt"}} {
		t.Run(name, func(t *testing.T) {
			hold := sdktest.NewHold(handler{}, sdktest.AfterWork, nil)
			c := sdktest.NewContainer(t, hold)
			hold.KillCaller(t, c, append(setup, "sys mknod s:n"+null)...)
			if got := sdktest.Errnos(c.Call(t, setup[len(setup)-1], "stat n", "sys mknod s:n"+null).Lines(t)); got != "ok EEXIST" {
				t.Errorf("afterwards: %s", got)
			}
		})
	}
}

// TestExecutedMeanwhile has the plugin work for a caller without privileges when another program has its thread id,
// with the privileges that the call needs.
func TestExecutedMeanwhile(t *testing.T) {
	var late atomic.Int64
	handle := func(ctx context.Context, req *sdk.Request, next sdk.Session) (sdk.Response, error) {
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			if program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", req.TID)); strings.HasSuffix(program, "/privileged") {
				late.Add(1)
				break
			}
		}
		response, err := next.Handle(context.WithoutCancel(ctx), req)
		if err != nil || response.String() != "next" {
			t.Errorf("the caller's own privileges are %v, %v", response, err)
		}
		return response, err
	}
	c := sdktest.NewContainer(t, sdktest.Around{Handler: handler{}, Handle: handle})
	result := c.Run(t, c.Install(t, sdktest.Race(t)), "20", "100000000", "100000000")
	if !strings.HasPrefix(result.Stdout, "0 ") || late.Load() == 0 {
		t.Errorf("%d calls were looked at late; made nodes, executed, refused: %s%s", late.Load(), result.Stdout, result.Stderr)
	}
}

// TestSwappedDirectory exchanges a directory that the caller may write by its power with one of the host, while nodes
// are made in it: none may come to lie in the host's.
func TestSwappedDirectory(t *testing.T) {
	c := sdktest.NewContainer(t, handler{})
	mine := filepath.Join(c.Rootfs(), hostDirectory(t, c, "mine", sdktest.HostID+5, sdktest.HostID+5, 0o700))
	hosts := filepath.Join(c.Rootfs(), hostDirectory(t, c, "hosts", 0, 0, 0o755))
	stop := sdktest.Swap(t, mine, hosts)
	lines := c.Call(t, "repeat 40", "sys mknod s:/tmp/mine/%i"+null).Lines(t)
	stop()
	counts := sdktest.Tally(lines)
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
	number := sdktest.PluginDescriptor(t, outside)
	for name, target := range map[string]string{
		"descriptor":     "/mnt/host/self/fd/" + strconv.Itoa(number),
		"own-descriptor": "/proc/self/fd/" + strconv.Itoa(number),
		"closed":         "/tmp/closed",
	} {
		t.Run(name, func(t *testing.T) {
			c := sdktest.NewContainer(t, sdktest.InProcess(handler{}), sdktest.WithMount(sdktest.HostProcfs(t), "/mnt/host"))
			closed := filepath.Join(c.Rootfs(), hostDirectory(t, c, "closed", 0, 0, 0o700))
			mine := filepath.Join(c.Rootfs(), hostDirectory(t, c, "mine", sdktest.HostID+5, sdktest.HostID+5, 0o700))
			links := filepath.Join(c.Rootfs(), hostDirectory(t, c, "links", sdktest.HostID, sdktest.HostID, 0o755))
			if err := errors.Join(os.Symlink("/tmp/mine", links+"/a"), os.Symlink(target, links+"/b")); err != nil {
				t.Fatal(err)
			}
			stop := sdktest.Swap(t, links+"/a", links+"/b")
			lines := c.Call(t, "repeat 40", "sys mknod s:/tmp/links/a/%i"+null).Lines(t)
			stop()
			counts := sdktest.Tally(lines)
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
