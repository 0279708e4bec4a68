package run_test

import (
	"bytes"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/intercede/intercede/core/run"
	"github.com/intercede/intercede/sdk/sdktest"
)

// screen is a terminal for the caller of Start: what is typed on it, and what it shows.
type screen struct {
	tty   *os.File
	keys  *os.File
	mutex sync.Mutex
	text  bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{tty: tty, keys: keys}
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 20, Cols: 70}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(s, keys)
	}()
	t.Cleanup(func() { tty.Close(); <-done; keys.Close() })
	return s
}

func (s *screen) Write(data []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.text.Write(data)
}

func (s *screen) shows(text string) func() bool {
	return func() bool { return strings.Contains(s.String(), text) }
}

func (s *screen) String() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.text.String()
}

func (s *screen) state(t *testing.T) *term.State {
	t.Helper()
	state, err := term.GetState(int(s.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func TestTerminal(t *testing.T) {
	sdktest.RequireRoot(t)
	s := newScreen(t)
	before := s.state(t)
	container := start(t, run.Options{
		Stdin: s.tty, Stdout: s.tty, Stderr: s.tty,
		Args: shell(`tty; stty size; test /dev/console -ef /dev/pts/0 && echo console; readlink /proc/self/fd/2
			stty -echo; echo ready; read line; echo "<$line>"; until test "$(stty size)" = "50 120"; do sleep 0.02; done; echo last; exit 9`),
	})
	if reflect.DeepEqual(before, s.state(t)) {
		t.Error("the caller's terminal is not in raw mode")
	}
	eventually(t, "ready", s.shows("ready"))
	s.keys.WriteString("typed\r")
	eventually(t, "the line arrives", s.shows("<typed>"))
	if err := pty.Setsize(s.keys, &pty.Winsize{Rows: 50, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if status, err := container.Wait(); status != 9 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	if !reflect.DeepEqual(before, s.state(t)) {
		t.Error("the caller's terminal is not restored after Wait")
	}
	eventually(t, "the last line is shown", s.shows("last"))
	want := "/dev/pts/0 20 70 console /dev/pts/0 ready <typed> last"
	if got := strings.Join(strings.Fields(s.String()), " "); got != want {
		t.Errorf("shown %q, want %q", got, want)
	}
}

func TestTerminalIsRestoredByClose(t *testing.T) {
	sdktest.RequireRoot(t)
	for name, args := range map[string][]string{"running": {"sleep", "1000"}, "not started": {"/nosuch"}} {
		t.Run(name, func(t *testing.T) {
			s := newScreen(t)
			before := s.state(t)
			container, err := run.Start(t.Context(), run.Options{Args: args, Stdin: s.tty, Stdout: s.tty, Stderr: s.tty})
			if err == nil {
				err = container.Close()
			} else {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
			if !reflect.DeepEqual(before, s.state(t)) {
				t.Error("the caller's terminal is not restored")
			}
		})
	}
}

// The container's terminal takes the place of every terminal and of no other file.
func TestTerminalForOutputOnly(t *testing.T) {
	sdktest.RequireRoot(t)
	s := newScreen(t)
	before := s.state(t)
	stdout, read := capture(t)
	container := start(t, run.Options{
		Stdin: openPipe(t), Stdout: stdout, Stderr: s.tty,
		Args: shell("tty <&2; tty <&2 >&2"),
	})
	if !reflect.DeepEqual(before, s.state(t)) {
		t.Error("the caller's terminal was changed although nothing is read from it")
	}
	if status, err := container.Wait(); status != 0 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	if got := read(); got != "/dev/pts/0\n" {
		t.Errorf("stdout %q", got)
	}
	eventually(t, "stderr is shown", s.shows("/dev/pts/0"))
}

func TestTerminalForUser(t *testing.T) {
	sdktest.RequireRoot(t)
	s := newScreen(t)
	container := start(t, run.Options{
		Stdin: s.tty, Stdout: s.tty, Stderr: s.tty, User: "1000:1000",
		Args: shell("echo opened >/dev/tty; echo again >$(tty); stat -c %u:%g:%a /dev/pts/0"),
	})
	container.Wait()
	eventually(t, "all is shown", s.shows("1000:5:620"))
	if !s.shows("opened")() || !s.shows("again")() {
		t.Errorf("shown %q", s)
	}
}

// A daemon may close the terminal and come back to it.
func TestTerminalReopened(t *testing.T) {
	sdktest.RequireRoot(t)
	s := newScreen(t)
	container := start(t, run.Options{
		Stdin: s.tty, Stdout: s.tty, Stderr: s.tty,
		Args: shell("exec 0<&- 1>&- 2>&-; sleep 0.1; echo back >/dev/console; exit 4"),
	})
	if status, err := container.Wait(); status != 4 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
	eventually(t, "the output after reopening is shown", s.shows("back"))
}
