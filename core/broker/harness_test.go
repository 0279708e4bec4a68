package broker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/intercede/intercede/core/auditsink"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/grant"
	"github.com/intercede/intercede/core/internal/testcaller"
	"github.com/intercede/intercede/core/internal/testplugin"
	"github.com/intercede/intercede/core/launcher"
	"github.com/intercede/intercede/internal/sandbox"
	"github.com/intercede/intercede/sdk/sdktest"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	testplugin.Init()
	testcaller.Init()
	os.Exit(m.Run())
}

// logged collects what is logged, and lets a test wait for it.
type logged struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newLogged() *logged { return &logged{changed: make(chan struct{})} }

func (j *logged) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	close(j.changed)
	j.changed = make(chan struct{})
	return j.text.Write(p)
}

func (j *logged) logger() zerolog.Logger { return zerolog.New(j).Level(zerolog.DebugLevel) }

// count is how many lines have all the words.
func (j *logged) count(words ...string) int {
	n, _ := j.look(words)
	return n
}

func (j *logged) look(words []string) (int, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for line := range strings.Lines(j.text.String()) {
		has := true
		for _, word := range words {
			has = has && strings.Contains(line, word)
		}
		if has {
			n++
		}
	}
	return n, j.changed
}

// await waits until n lines have all the words.
func (j *logged) await(t testing.TB, n int, words ...string) {
	t.Helper()
	timeout := time.After(testcaller.Timeout)
	for {
		have, changed := j.look(words)
		if have >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d lines of the log have %q, want %d:\n%s", have, words, n, j.text.String())
		}
	}
}

// gate is where a plugin's calls wait for the test.
type gate struct {
	name    string
	arrived chan *held
}

// held is a call that waits at the gate.
type held struct {
	what   string
	conn   net.Conn
	reader *bufio.Reader
}

func newGate(t testing.TB) *gate {
	t.Helper()
	dir, err := os.MkdirTemp("", "gate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &gate{name: dir + "/gate", arrived: make(chan *held, 1000)}
	l, err := net.Listen("unix", g.name)
	if err != nil {
		t.Fatal(err)
	}
	// A plugin is nobody special, and sees the files of the host alone, not its abstract sockets.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(g.name, 0o777)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go g.greet(conn)
		}
	}()
	return g
}

func (g *gate) greet(conn net.Conn) {
	reader := bufio.NewReader(conn)
	line, _ := reader.ReadString('\n')
	g.arrived <- &held{strings.TrimSpace(line), conn, reader}
}

// next waits for a call at the gate.
func (g *gate) next(t testing.TB) *held {
	t.Helper()
	select {
	case h := <-g.arrived:
		return h
	case <-time.After(testcaller.Timeout):
		t.Fatal("nobody comes to the gate")
		return nil
	}
}

func (h *held) open() { h.conn.Close() }

// line is what the plugin says next; empty: it is gone.
func (h *held) line(t testing.TB) string {
	t.Helper()
	h.conn.SetReadDeadline(time.Now().Add(testcaller.Timeout))
	line, err := h.reader.ReadString('\n')
	if err != nil && err != io.EOF && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the gate: %v", err)
	}
	return strings.TrimSpace(line)
}

// bench is a broker with its plugins.
type bench struct {
	*Broker
	log        *logged
	gate       *gate
	plugins    map[string]*launcher.Plugin
	generation *Generation
}

const (
	// longDeadline is over for no call that a test holds, however slow the machine is.
	longDeadline = 10 * testcaller.Timeout
	// shortDeadline is waited for. A call that is not held is answered before, also on a slow machine.
	shortDeadline = 5 * time.Second
)

// options of a bench. The zero value has one plugin "trial", and limits that no test reaches.
type options struct {
	plugins  []string
	deadline time.Duration
	limits   Limits
	settings map[string]string
	times    launcher.Times
	rooms    *launcher.Rooms
	audit    *auditsink.Sink
}

var syscallNames = map[int32]string{
	unix.SYS_GETPPID: "getppid", unix.SYS_SETHOSTNAME: "sethostname", unix.SYS_CHDIR: "chdir", unix.SYS_GETSID: "getsid",
}

func syscallName(_ uint32, nr int32, _ uint64) (string, bool) {
	name, ok := syscallNames[nr]
	return name, ok
}

// startPlugin starts a plugin that ends with the test.
func startPlugin(t testing.TB, name string, o options, log zerolog.Logger) *launcher.Plugin {
	t.Helper()
	sdktest.RequireRoot(t)
	spec := launcher.Spec{
		Name: name, Path: testplugin.Install(t, name), Times: o.times, Rooms: o.rooms, Grant: grant.Everything(),
		GRPC: testplugin.WithoutLanes(),
	}
	manifest, err := launcher.ReadManifest(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launcher.Start(t.Context(), spec, manifest, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func newBench(t testing.TB, o options) *bench {
	t.Helper()
	b := &bench{log: newLogged(), gate: newGate(t), plugins: map[string]*launcher.Plugin{}}
	if o.plugins == nil {
		o.plugins = []string{"trial"}
	}
	for _, name := range o.plugins {
		b.plugins[name] = startPlugin(t, name, o, b.log.logger())
	}
	b.generation = b.newGeneration(o)
	broker, err := New(Config{Generation: b.generation, Log: b.log.logger(), Audit: o.audit})
	if err != nil {
		t.Fatal(err)
	}
	b.Broker = broker
	t.Cleanup(func() { b.close() })
	return b
}

func (b *bench) newGeneration(o options) *Generation {
	if o.plugins == nil {
		o.plugins = []string{"trial"}
	}
	if o.deadline == 0 {
		o.deadline = longDeadline
	}
	if o.limits.MaxInflight == 0 {
		o.limits.MaxInflight = 1000
	}
	settings := map[string]string{"gate": b.gate.name, "refuse": "", "attach": "", "switch": ""}
	for key, value := range o.settings {
		settings[key] = value
	}
	text, _ := json.Marshal(settings)
	g := &Generation{Limits: o.limits, SyscallName: syscallName}
	for _, name := range o.plugins {
		plugin := b.plugins[name]
		g.Bindings = append(g.Bindings, Binding{
			Plugin: plugin, Settings: string(text), Deadline: o.deadline, OnFailure: plugin.Manifest().GetOnFailure(),
		})
	}
	return g
}

// close closes the broker once.
func (b *bench) close() {
	if b.Broker != nil {
		b.Broker.Close()
		b.Broker = nil
	}
}

var lastContainer atomic.Uint64

// attach starts a container with a filter of all that the plugin takes.
func (b *bench) attach(t testing.TB) *testcaller.Caller {
	t.Helper()
	c := testcaller.Start(t, 0)
	b.attachCaller(t, c, fmt.Sprintf("c%d", lastContainer.Add(1)))
	return c
}

func (b *bench) attachCaller(t testing.TB, c *testcaller.Caller, id string) {
	t.Helper()
	claim := container.Claim{ID: id, Runtime: "test", PID: c.PID}
	listener := c.Listener(t, unix.SYS_GETPPID, unix.SYS_SETHOSTNAME, unix.SYS_CHDIR, unix.SYS_GETSID)
	if err := b.Attach(context.Background(), listener, claim); err != nil {
		t.Fatal(err)
	}
}

// op is the arguments of a getppid call that the plugin takes.
func op(what testplugin.Op, parameters ...uint64) []uint64 {
	args := make([]uint64, 6)
	args[0] = uint64(what)
	copy(args[1:5], parameters)
	args[5] = testplugin.Magic
	return args
}

// want fails the test if the call did not return so.
func want(t testing.TB, got testcaller.Result, value int64, errno syscall.Errno) {
	t.Helper()
	if got.Errno != errno || errno == 0 && got.Value != value {
		t.Errorf("the caller got %d, %v (%d), want %d, %v", got.Value, got.Errno, int(got.Errno), value, errno)
	}
}

// ask makes a getppid call and waits for its answer.
func ask(t testing.TB, c *testcaller.Caller, what testplugin.Op, parameters ...uint64) testcaller.Result {
	t.Helper()
	return c.Call(t, unix.SYS_GETPPID, op(what, parameters...)...)
}

// begin makes a getppid call.
func begin(c *testcaller.Caller, what testplugin.Op, parameters ...uint64) <-chan testcaller.Result {
	return c.Go(unix.SYS_GETPPID, op(what, parameters...)...)
}

// eventually waits until what is said is true.
func eventually(t testing.TB, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(testcaller.Timeout); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come true that %s", what)
		}
	}
}

// stopPlugin sends SIGSTOP and waits until no thread of the plugin runs any more. It returns the plugin's process.
func (b *bench) stopPlugin(t *testing.T, name string) (pid int) {
	t.Helper()
	pid = b.runningPID(t, name)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin is stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && !strings.Contains(string(text), ") T ")
		})
	})
	return pid
}
