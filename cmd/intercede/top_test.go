package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/intercede/intercede/cmd/internal/cli"
	"golang.org/x/sys/unix"
)

// TestTop has a container make calls, and reads the figures of it and of its plugin.
func TestTop(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	m := s.startMaker(t, "--name", "web")
	m.want(t, "made")
	f := newFollower(t, program("top", "--control", s.dir+"/control", "--json", "--interval", "100ms"))
	f.next(t) // it has asked
	type figures struct {
		ID, Name, State string
		Rate            float64 `json:"calls_per_s"`
		P50             float64 `json:"p50_s"`
		P99             float64 `json:"p99_s"`
	}
	var sample struct {
		Period     float64 `json:"period_s"`
		Containers []figures
		Plugins    []figures
	}
	var mknod figures
	// The figures of a call are counted one after the other: a look may come between them.
	eventually(t, "a look has all figures of a call", func() bool {
		m.want(t, "made")
		sample.Containers, sample.Plugins = nil, nil
		if err := json.Unmarshal([]byte(f.next(t)), &sample); err != nil {
			t.Fatal(err)
		}
		for _, p := range sample.Plugins {
			if p.Name == "mknod" {
				mknod = p
			}
		}
		return len(sample.Containers) > 0 && sample.Containers[0].Rate > 0 && sample.Containers[0].P50 > 0 && mknod.Rate > 0 && mknod.P50 > 0
	})
	s.waitForRecords(t)
	id := s.status(t).Containers[0].ID
	if c := sample.Containers[0]; len(sample.Containers) != 1 || c.ID != id || c.Name != "web" || c.P50 <= 0 || c.P99 < c.P50 ||
		sample.Period < 0.1 {
		t.Errorf("containers %+v", sample)
	}
	if len(sample.Plugins) != 2 || mknod.State != "running" || mknod.Rate <= 0 || mknod.P50 <= 0 {
		t.Errorf("plugins %+v", sample.Plugins)
	}
	f.end(t)

	tables := mustRun(t, program("top", "--config", s.config(), "--interval", "100ms", "--count", "2"))
	if n := len(regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d, in \S+\nCONTAINER +CALLS/S.*\nweb +-`).FindAllString(tables, -1)); n != 2 {
		t.Errorf("%d tables of containers, want 2:\n%s", n, tables)
	}
	tables = mustRun(t, program("top", "--config", s.config(), "--interval", "100ms", "--count", "1", "--plugins", "--sort", "plugin"))
	wantText(t, tables, "STATE\nmknod ", "running\nsysinfo ")
	if strings.Contains(tables, "\x1b") {
		t.Errorf("not plain: %q", tables)
	}
	r := intercede(t, "top", "--control", s.dir+"/nosuch", "--count", "1")
	if wantText(t, r.stderr, "start the daemon"); r.status != cli.ExitFailure {
		t.Errorf("without a daemon: status %d", r.status)
	}
}

// terminal is one on which a program runs: what is typed there, and what it shows.
type terminal struct {
	cmd  *exec.Cmd
	keys *os.File
	tty  *os.File
	out  lockedBuffer
}

// newTerminal runs the command on a terminal of 80 columns and 24 lines.
func newTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	keys, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{cmd: cmd, keys: keys, tty: tty}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		io.Copy(&term.out, keys)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		tty.Close()
		<-copied
		keys.Close()
	})
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = append(cmd.Env, "TERM=xterm-256color", "NO_COLOR=1")
	return term
}

func (term *terminal) state(t *testing.T) *unix.Termios {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (term *terminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := term.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// awaits waits until the terminal shows something that it did not show before the call.
func (term *terminal) awaits(t *testing.T, do func(), shown string) {
	t.Helper()
	before := len(term.out.String())
	pattern := regexp.MustCompile(shown)
	do()
	for end := time.Now().Add(patience); !pattern.MatchString(term.out.String()[before:]); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the terminal does not show %q: %q", shown, term.out.String()[before:])
		}
	}
}

// TestTopOnTerminal uses the table as a person does. However it ends, the terminal is as before.
func TestTopOnTerminal(t *testing.T) {
	s := newSite(t, both)
	s.serve(t)
	m := s.startMaker(t, "--name", "web")
	m.want(t, "made")
	for name, end := range map[string]func(t *testing.T, term *terminal){
		"q":       func(t *testing.T, term *terminal) { term.press(t, "q") },
		"ctrl-c":  func(t *testing.T, term *terminal) { term.press(t, "\x03") },
		"SIGINT":  func(_ *testing.T, term *terminal) { term.cmd.Process.Signal(unix.SIGINT) },
		"SIGTERM": func(_ *testing.T, term *terminal) { term.cmd.Process.Signal(unix.SIGTERM) },
		"SIGHUP":  func(_ *testing.T, term *terminal) { term.cmd.Process.Signal(unix.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t, program("top", "--control", s.dir+"/control", "--interval", "100ms"))
			before := term.state(t)
			term.awaits(t, func() {
				if err := term.cmd.Start(); err != nil {
					t.Fatal(err)
				}
			}, `web`)
			if reflect.DeepEqual(term.state(t), before) {
				t.Error("keys are echoed")
			}
			term.awaits(t, func() { term.press(t, "s") }, `\x1b\[7mFAILED/S`)
			term.awaits(t, func() { term.press(t, "\x1b[C") }, `\x1b\[7mP50`) // the right arrow
			term.awaits(t, func() { term.press(t, "p") }, `PLUGIN`)
			term.awaits(t, func() { term.press(t, "?") }, `reverse the order`)
			term.awaits(t, func() { term.press(t, "x") }, `mknod`)
			term.awaits(t, func() { pty.Setsize(term.keys, &pty.Winsize{Rows: 40, Cols: 120}) }, `STATE`)
			end(t, term)
			if err := term.cmd.Wait(); err != nil {
				t.Errorf("it ends with %v", err)
			}
			if !reflect.DeepEqual(term.state(t), before) {
				t.Error("the terminal is not as before")
			}
			eventually(t, "the first screen is shown again, with a cursor", func() bool {
				shown := term.out.String()
				left := strings.LastIndex(shown, "\x1b[?1049l")
				return left > strings.LastIndex(shown, "\x1b[?1049h") && strings.LastIndex(shown, "\x1b[?25h") > strings.LastIndex(shown, "\x1b[?25l")
			})
			if color := regexp.MustCompile(`\x1b\[([0-9;]*;)?(3[0-8]|4[0-8]|9[0-7])(;[0-9;]*)?m`).FindString(term.out.String()); color != "" {
				t.Errorf("with NO_COLOR there is %q", color)
			}
		})
	}
}
