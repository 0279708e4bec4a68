package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/intercede/intercede/cmd/internal/cli"
	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/control"
	"golang.org/x/sys/unix"
)

// patience bounds every wait for what must happen soon; only a failing test takes as long.
const patience = 2 * time.Minute

// daemonProcess is a running `intercede serve`.
type daemonProcess struct {
	cmd    *exec.Cmd
	exited chan struct{}
	killed bool
	log    lockedBuffer
}

// lockedBuffer is what a process writes, readable meanwhile.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// serve starts the daemon and waits until it answers. It ends with the test, and must end well.
func (s *site) serve(t *testing.T) *daemonProcess {
	t.Helper()
	d := &daemonProcess{cmd: program("serve", "--config", s.config()), exited: make(chan struct{})}
	d.cmd.Stderr = &d.log
	s.start(t, d)
	return d
}

// start is serve for a daemon whose command is there.
func (s *site) start(t *testing.T, d *daemonProcess) {
	t.Helper()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.cmd.Wait()
		close(d.exited)
	}()
	t.Cleanup(func() {
		d.stop(t)
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", &d.log)
		}
	})
	eventually(t, "the daemon answers", func() bool {
		return intercede(t, "status", "--config", s.config()).status == 0
	})
}

// stop ends the daemon with SIGTERM.
func (d *daemonProcess) stop(t *testing.T) {
	t.Helper()
	d.cmd.Process.Signal(unix.SIGTERM) // fails when it was stopped before
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.cmd.Process.Kill()
		t.Fatal("the daemon does not end")
	}
	if status := d.cmd.ProcessState.ExitCode(); status != 0 && !d.killed {
		t.Errorf("the daemon exited with %d", status)
	}
}

func (s *site) status(t *testing.T) *control.Status {
	t.Helper()
	status := &control.Status{}
	r := intercede(t, "status", "--config", s.config(), "--json") // its exit status is 1 while a plugin does not run
	if err := json.Unmarshal([]byte(r.stdout), status); err != nil {
		t.Fatalf("%v: %s", err, r.stderr)
	}
	return status
}

func (s *site) waitForContainers(t *testing.T, count int) {
	t.Helper()
	eventually(t, "the number of containers is right", func() bool { return len(s.status(t).Containers) == count })
}

// eventually waits for something that comes without a signal.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("it never came that %s", what)
}

// waitForRecords waits until all calls that have begun are over: the daemon counts and records a call after its answer.
func (s *site) waitForRecords(t *testing.T) {
	t.Helper()
	eventually(t, "no call is being handled", func() bool {
		return !slices.ContainsFunc(s.status(t).Containers, func(c broker.ContainerStatus) bool { return c.Inflight > 0 })
	})
}

// logs waits until the log says it: what the daemon writes comes over a pipe.
func (d *daemonProcess) logs(t *testing.T, said string) {
	t.Helper()
	eventually(t, "the log says "+said, func() bool { return strings.Contains(d.log.String(), said) })
}

// kill ends the daemon with SIGKILL.
func (d *daemonProcess) kill() {
	d.killed = true
	d.cmd.Process.Kill()
	<-d.exited
}

func TestServeOwnsItsSockets(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	second := intercede(t, "serve", "--config", s.config())
	if second.status != cli.ExitFailure {
		t.Errorf("a second daemon: status %d", second.status)
	}
	wantText(t, second.stderr, s.socket(), "a running broker owns the socket")

	d.kill() // leaves its sockets, which the next one replaces
	s.serve(t).stop(t)
	after := intercede(t, "status", "--config", s.config())
	if after.status != cli.ExitFailure {
		t.Errorf("status without a daemon: %d", after.status)
	}
	wantText(t, after.stderr, "intercede serve")
}

func TestServeKeepsPluginsFromOutlivingIt(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	plugins := s.status(t).Plugins
	d.kill()
	for _, p := range plugins {
		eventually(t, "the plugin "+p.Name+" is gone", func() bool { return unix.Kill(p.PID, 0) == unix.ESRCH })
	}
}

// maker is a container of the daemon; see startMaker.
type maker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startMaker starts a container, with further flags of run, that tries mknod of zero (c 1:5) for each line that it
// gets, and says what came of it.
func (s *site) startMaker(t *testing.T, flags ...string) *maker {
	t.Helper()
	args := append([]string{"run", "--config", s.config(), "--socket", s.socket()}, flags...)
	m := &maker{cmd: program(append(args, "--", "sh", "-c",
		`while read line; do rm -f /tmp/zero; mknod /tmp/zero c 1 5 2>&1 && echo made; done`)...)}
	in, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.in, m.out = in, bufio.NewReader(out)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		m.cmd.Wait()
	})
	return m
}

// try gives what came of one mknod.
func (m *maker) try(t *testing.T) string {
	t.Helper()
	if _, err := m.in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	line, err := m.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func (m *maker) want(t *testing.T, want string) {
	t.Helper()
	if got := m.try(t); !strings.Contains(got, want) {
		t.Errorf("mknod: %q, want %q", got, want)
	}
}

// reload sends SIGHUP and waits for what the log says then.
func (d *daemonProcess) reload(t *testing.T, said string) {
	t.Helper()
	before := strings.Count(d.log.String(), said)
	d.cmd.Process.Signal(unix.SIGHUP)
	eventually(t, "the log says "+said, func() bool { return strings.Count(d.log.String(), said) > before })
}

func TestServeReloads(t *testing.T) {
	const narrow = "[plugins.mknod.config]\ndevices = [\"c 1:3\"]\n"
	s := newSite(t, both)
	d := s.serve(t)
	first := s.startMaker(t)
	first.want(t, "made")

	s.write(t, both+narrow)
	d.reload(t, "config reloaded")
	second := s.startMaker(t)
	second.want(t, "not permitted")
	first.want(t, "made")

	s.write(t, both+"[plugins.mknod.config]\ndevices = \"all\"\n")
	d.reload(t, "config not reloaded")
	s.write(t, "nonsense")
	d.reload(t, "config not reloaded")
	s.write(t, both) // for the container; the daemon is not told
	third := s.startMaker(t)
	third.want(t, "not permitted")
	first.want(t, "made")
	if plugins := s.status(t).Plugins; len(plugins) != 2 {
		t.Errorf("%d plugin processes: an unchanged plugin is to be shared", len(plugins))
	}
	s.waitForContainers(t, 3)

	s.write(t, "[plugins.mknod]\n")
	d.reload(t, "config reloaded")
	if plugins := s.status(t).Plugins; len(plugins) != 2 {
		t.Errorf("%d plugin processes: those that containers use are to stay", len(plugins))
	}
	for _, m := range []*maker{first, second, third} {
		m.in.Close()
	}
	eventually(t, "the plugin that nobody uses is gone", func() bool { return len(s.status(t).Plugins) == 1 })
}

// A container outlives the daemon; its calls then get what the kernel gives without a reader.
func TestServeEndsUnderContainers(t *testing.T) {
	s := newSite(t, both)
	d := s.serve(t)
	m := s.startMaker(t)
	m.want(t, "made")
	d.stop(t)
	m.want(t, "not implemented")
}

// A log that nobody reads holds up no call, and a reader that goes away does not end the daemon. The next reader learns
// how many records it lacks.
func TestServeWithoutReaderOfItsLog(t *testing.T) {
	s := newSite(t, both)
	path := s.dir + "/log"
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader := openLog(t, path)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemonProcess{cmd: program("serve", "--config", s.config(), "--log-level", "debug"), exited: make(chan struct{})}
	d.cmd.Stderr = writer
	s.start(t, d)
	writer.Close()

	if err := goBuild("interrupted", "./testdata/interrupted"); err != nil {
		t.Fatal(err)
	}
	caller := program("run", "--config", s.config(), "--socket", s.socket(), "--", filepath.Join(binaries, "interrupted"))
	wantText(t, mustRun(t, caller), "5000 calls")
	m := s.startMaker(t)
	m.want(t, "made")

	reader.Close()
	m.want(t, "made")
	s.status(t)

	reader = openLog(t, path)
	defer reader.Close()
	lines := make(chan string, 1<<20)
	go func() {
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			lines <- scanner.Text()
		}
		close(lines)
	}()
	m.want(t, "made")
	awaitLine(t, lines, "log records were dropped: the reader of the log is slow")
	d.stop(t)
	awaitLine(t, lines, "ending")
}

// TestServeKnownManifests has the manifests that a daemon before has read be wrong: the daemon does not serve with
// them, and the next one asks the programs.
func TestServeKnownManifests(t *testing.T) {
	s := newSite(t, "[plugins.mknod]\n")
	pattern := filepath.Join(s.dir, "manifests", "*.json")
	eventually(t, "manifests are kept", func() bool {
		s.serve(t).stop(t)
		files, _ := filepath.Glob(pattern)
		return len(files) > 0
	})
	files, _ := filepath.Glob(pattern)
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var kept map[string]json.RawMessage
		var printed []byte
		if err := json.Unmarshal(text, &kept); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(kept["printed"], &printed); err != nil {
			t.Fatal(err)
		}
		kept["printed"], _ = json.Marshal(bytes.Replace(printed, []byte(`"max": 4096`), []byte(`"max": 100`), 1))
		text, _ = json.Marshal(kept)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := intercede(t, "serve", "--config", s.config()); r.status != cli.ExitFailure || !strings.Contains(r.stderr, "another manifest") {
		t.Errorf("exit status %d: %s", r.status, r.stderr)
	}
	s.serve(t)
}

// openLog opens the reading end of a FIFO.
func openLog(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func awaitLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	for {
		select {
		case line, more := <-lines:
			if !more {
				t.Fatalf("the log ended without %q", want)
			}
			if strings.Contains(line, want) {
				t.Log(line)
				return
			}
		case <-time.After(patience):
			t.Fatalf("the log does not say %q", want)
		}
	}
}
