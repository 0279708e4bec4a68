package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/intercede/intercede/core/control"
	"golang.org/x/sys/unix"
)

// follower is a running command whose output is read line by line.
type follower struct {
	cmd   *exec.Cmd
	lines chan string
}

// newFollower starts the command.
func newFollower(t *testing.T, cmd *exec.Cmd) *follower {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	f := &follower{cmd, make(chan string, 1000)}
	go func() {
		defer close(f.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			f.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return f
}

// newTracer starts the command and waits until it watches.
func newTracer(t *testing.T, cmd *exec.Cmd) *follower {
	t.Helper()
	messages, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	f := newFollower(t, cmd)
	began, err := bufio.NewReader(messages).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, began, "no such container is attached yet")
	return f
}

// next returns the next line; "": there is none.
func (f *follower) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-f.lines:
		return line
	case <-time.After(patience):
		t.Fatal("nothing is printed")
		return ""
	}
}

// end interrupts the command, and checks its exit status.
func (f *follower) end(t *testing.T) {
	t.Helper()
	f.cmd.Process.Signal(unix.SIGINT)
	if err := f.cmd.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestTrace has a container make calls while one operator watches all, and one those of a plugin as JSON.
func TestTrace(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n")
	s.serve(t)
	all := newTracer(t, program("trace", "--config", s.config()))
	refused := newTracer(t, program("trace", "--control", s.dir+"/control", "--plugin", "mknod", "--outcome", "continue", "--json"))
	// A call is shown after its answer: each waits until the one before is shown.
	container := program("run", "--config", s.config(), "--socket", s.socket(), "--",
		"sh", "-c", "mknod /tmp/a c 1 3; read next; mknod /tmp/b c 1 1; read next; mknod /tmp/c b 8 0; read next")
	next, err := container.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said := &lockedBuffer{}
	container.Stderr = said
	newFollower(t, container)
	line := regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{6} [0-9a-f]+ \[pid \d+<mknod>\] mknod(?:at)?\((?:AT_FDCWD, )?(.*)\) = (.*) <\d+\.\d{6}>$`)
	for _, want := range [][2]string{
		{`"/tmp/a", S_IFCHR|0666, makedev(1, 3)`, "0 [mknod]"},
		{`"/tmp/b", S_IFCHR|0666, makedev(1, 1)`, "? (continue) [mknod: device_not_listed: c 1:1]"},
		{`"/tmp/c", S_IFBLK|0666, makedev(8, 0)`, "? (continue) [mknod: block_device: b 8:0]"},
	} {
		text := all.next(t)
		if got := line.FindStringSubmatch(text); got == nil || got[1] != want[0] || got[2] != want[1] {
			t.Errorf("%q, want %q", text, want)
		}
		io.WriteString(next, "go\n")
	}
	if err := container.Wait(); err != nil {
		t.Error(err)
	}
	wantText(t, said.String(), "b: Operation not permitted")
	for _, reason := range []string{"device_not_listed", "block_device"} {
		var call control.TracedCall
		if err := json.Unmarshal([]byte(refused.next(t)), &call); err != nil || call.Reason != reason || call.Comm != "mknod" || call.Line == "" {
			t.Errorf("%+v, %v; want the reason %s", call, err, reason)
		}
	}
	all.end(t)
	refused.end(t)
}
