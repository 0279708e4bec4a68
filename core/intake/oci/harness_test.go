package oci

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/intercede/intercede/core/internal/testpeer"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const (
	childVariable = "INTERCEDE_OCI_TEST_CHILD"
	childSocket   = 3

	// patience only bounds tests that have failed already.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	testpeer.Init()
	if os.Getenv(childVariable) != "" {
		if err := sendNewListener(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sendNewListener is the child: it puts a filter on itself that allows all, and sends the listener to its parent. It is
// a process of its own because a filter stays for as long as the thread lives.
func sendNewListener() error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	listener, err := notify.Load([]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}, 0)
	if err != nil {
		return err
	}
	return unix.Sendmsg(childSocket, []byte{0}, unix.UnixRights(int(listener)), nil, 0)
}

// newListener returns a real seccomp listener, closed when the test ends.
func newListener(t *testing.T) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "child's socket")
	executable, err := os.Executable()
	must(t, err)
	child := exec.Command(executable)
	child.Env = append(os.Environ(), childVariable+"=1", "GORACE=atexit_sleep_ms=0")
	child.ExtraFiles = []*os.File{theirs}
	output, err := child.CombinedOutput()
	theirs.Close()
	if err != nil {
		t.Fatalf("the child could not make a seccomp listener: %v\n%s", err, output)
	}
	_, fds, err := linux.Receive(pair[0], make([]byte, 1), 1)
	must(t, err)
	if len(fds) != 1 {
		t.Fatalf("the child sent %d descriptors", len(fds))
	}
	return closeAtEnd(t, os.NewFile(uintptr(fds[0]), "listener"))
}

// newPipe returns both ends of a pipe. The read end tells by EOF that every copy of the write end is closed.
func newPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	return closeAtEnd(t, r), closeAtEnd(t, w)
}

func closeAtEnd(t *testing.T, file *os.File) *os.File {
	t.Cleanup(func() { file.Close() })
	return file
}

// shortDir returns a directory whose path leaves room in sun_path.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "oci")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// requireNoLeak fails the test if more descriptors are open when it ends than are now. Call it first.
func requireNoLeak(t *testing.T) {
	t.Helper()
	startPoller(t)
	before := openDescriptors(t)
	t.Cleanup(func() {
		if after := openDescriptors(t); len(after) > len(before) {
			t.Errorf("descriptors leaked:\nbefore %q\nafter  %q", before, after)
		}
	})
}

// startPoller makes the Go runtime open the descriptors that it keeps.
func startPoller(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	r.Close()
	w.Close()
}

func openDescriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var kinds []string
	for _, entry := range entries {
		if kind, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// event is what became of one connection: an arrival, or a peer and why it was refused.
type event struct {
	arrival Arrival
	peer    unix.Ucred
	err     error
}

type broker struct {
	server *Server
	path   string
	events chan event
	cancel context.CancelFunc
	ended  chan error
}

// startBroker serves until the test ends. Every connection's fate is in events, in order.
func startBroker(t *testing.T, change ...func(*limits)) *broker {
	t.Helper()
	b := &broker{
		path:   filepath.Join(shortDir(t), "s"),
		events: make(chan event, 1000),
		ended:  make(chan error, 1),
	}
	var err error
	b.server, err = Listen(b.path, nil, func(peer unix.Ucred, err error) { b.events <- event{peer: peer, err: err} })
	must(t, err)
	for _, fn := range change {
		fn(&b.server.limits)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	go func() {
		b.ended <- b.server.Serve(ctx, nil, func(a Arrival) { b.events <- event{arrival: a} })
	}()
	t.Cleanup(func() { b.stop(t) })
	return b
}

// stop ends Serve and closes the server and whatever arrived unobserved.
func (b *broker) stop(t *testing.T) {
	t.Helper()
	b.cancel()
	if err := <-b.ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	b.ended <- nil
	if err := b.server.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	for len(b.events) > 0 {
		if e := <-b.events; e.err == nil {
			e.arrival.Listener.Close()
		}
	}
}

func (b *broker) next(t *testing.T) event {
	t.Helper()
	select {
	case e := <-b.events:
		return e
	case <-time.After(patience):
		t.Fatal("the broker reported nothing")
		panic("unreachable")
	}
}

// nextArrival requires that the next connection is a good one. Its listener is closed when the test ends.
func (b *broker) nextArrival(t *testing.T) Arrival {
	t.Helper()
	e := b.next(t)
	if e.err != nil {
		t.Fatalf("refused: %v", e.err)
	}
	closeAtEnd(t, e.arrival.Listener)
	return e.arrival
}

// dial connects as a runtime does. The connection stays open until the test ends.
func (b *broker) dial(t *testing.T) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: b.path, Net: "unix"})
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// send writes one message with one sendmsg and fails the test if it cannot.
func send(t *testing.T, conn *net.UnixConn, data string, files ...*os.File) {
	t.Helper()
	if err := trySend(conn, data, files...); err != nil {
		t.Fatalf("sending: %v", err)
	}
}

func trySend(conn *net.UnixConn, data string, files ...*os.File) error {
	var fds []int
	for _, file := range files {
		fds = append(fds, int(file.Fd()))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := conn.WriteMsgUnix([]byte(data), rights, nil)
	if err != nil {
		return err
	}
	return writeRest(conn, []byte(data[n:]))
}

func exampleState(names ...string) specs.ContainerProcessState {
	return specs.ContainerProcessState{
		Version: specs.Version,
		Fds:     names,
		Pid:     4242,
		State:   specs.State{Version: specs.Version, ID: "web", Status: specs.StateCreating, Pid: 4242, Bundle: "/bundle"},
	}
}

// message is the JSON of a valid state whose fds are names.
func message(t testing.TB, names ...string) string {
	t.Helper()
	return encode(t, exampleState(names...))
}

func encode(t testing.TB, state specs.ContainerProcessState) string {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
