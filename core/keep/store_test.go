package keep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// shortDir is a folder whose path leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func dialOnce(path string) error {
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	return err
}

// newQueue is a manager's socket that nobody reads yet, with the variables for Open.
func newQueue(t *testing.T) (socket int) {
	t.Helper()
	path := filepath.Join(shortDir(t), "n")
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	t.Setenv(notifySocket, path)
	t.Setenv(storeSize, "")
	return socket
}

func open(t *testing.T, stored ...Descriptor) *Store {
	t.Helper()
	s, err := Open(stored...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next is the next message in the queue, with its number of descriptors.
func next(t *testing.T, socket int) string {
	t.Helper()
	buffer := make([]byte, 4096)
	n, fds, err := linux.Receive(socket, buffer, 10)
	if err != nil {
		t.Fatal(err)
	}
	linux.CloseAll(fds...)
	return fmt.Sprintf("%s+%d", strings.ReplaceAll(string(buffer[:n]), "\n", " "), len(fds))
}

func TestStoreMessages(t *testing.T) {
	socket := newQueue(t)
	s := open(t)
	file := tempFile(t)
	if err := errors.Join(
		s.Put("listener.12.1", int(file.Fd())), s.Remove("listener.12.1"), s.Notify(Ready), s.Notify("STATUS=2 containers"),
	); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"FDSTORE=1 FDNAME=listener.12.1 FDPOLL=0+1", "FDSTOREREMOVE=1 FDNAME=listener.12.1+0", "READY=1+0", "STATUS=2 containers+0",
	} {
		if got := next(t, socket); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := s.Notify(Reloading()); err != nil {
		t.Fatal(err)
	}
	var µs int64
	if got := next(t, socket); !strings.HasPrefix(got, "RELOADING=1 ") {
		t.Errorf("got %q", got)
	} else if _, err := fmt.Sscanf(got, "RELOADING=1 MONOTONIC_USEC=%d+0", &µs); err != nil || µs <= 0 {
		t.Errorf("got %q: %v", got, err)
	}
	before := openDescriptors(t)
	s.Put("x", int(file.Fd()))
	next(t, socket)
	for fd, target := range openDescriptors(t) {
		if before[fd] != target {
			t.Errorf("descriptor %d is left: %s", fd, target)
		}
	}
}

// tempFile is a file of its own.
func tempFile(t *testing.T) *os.File {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// openDescriptors are this process's. Those that other tests have left may be closed at any time, by the garbage
// collector too.
func openDescriptors(t *testing.T) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	open := map[int]string{}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink("/proc/self/fd/" + entry.Name()); err == nil { // not that of ReadDir
			open[fd] = target
		}
	}
	return open
}

func TestNoStore(t *testing.T) {
	t.Setenv(notifySocket, "")
	s := open(t)
	if s.Available() || s.Size() != 0 || s.Count() != 0 {
		t.Errorf("a store without a manager: %+v", s)
	}
	if err := errors.Join(s.Put("x", 0), s.Remove("x"), s.Notify(Ready), s.Barrier(t.Context())); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"vsock:2:1", "relative"} {
		t.Setenv(notifySocket, address)
		if s, err := Open(); err == nil || s.Available() {
			t.Errorf("%s: %v", address, err)
		}
	}
	t.Setenv(notifySocket, filepath.Join(shortDir(t), "nobody"))
	if err := open(t).Notify(Ready); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a manager that is gone: %v", err)
	}
}

func TestStoreIsFull(t *testing.T) {
	socket := newQueue(t)
	t.Setenv(storeSize, "3")
	s := open(t, Descriptor{Name: "listener.1.1"}, Descriptor{Name: "listener.1.1"})
	if s.Size() != 3 || s.Count() != 2 || !s.Available() {
		t.Errorf("size %d, count %d", s.Size(), s.Count())
	}
	if err := s.Put("record.1", socket); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("record.2", socket); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "record.2") {
		t.Errorf("got %v", err)
	}
	if err := s.Remove("listener.1.1"); err != nil || s.Count() != 1 {
		t.Errorf("%d are left, %v", s.Count(), err)
	}
	if err := s.Put("record.2", socket); err != nil {
		t.Error(err)
	}
}

// TestNamesFit fills the store with as many names as Put takes: they fit into one variable of the next broker.
func TestNamesFit(t *testing.T) {
	socket := newQueue(t)
	s := open(t)
	var names []string
	for i := 0; ; i++ {
		name := fmt.Sprintf("listener.%d.%s", i, strings.Repeat("9", 200))
		if err := s.Put(name, 0); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		next(t, socket)
		names = append(names, name)
	}
	argument := listenNames + "=" + strings.Join(names, ":")
	process, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Env: []string{argument}})
	if err != nil {
		t.Fatalf("%d names: %v", len(names), err)
	}
	process.Wait()
}

func TestNames(t *testing.T) {
	newQueue(t)
	s := open(t)
	for _, name := range []string{"", "a:b", "a\nREADY=1", "Ä", "UPPER", "a b", strings.Repeat("x", 256)} {
		if s.Put(name, 0) == nil || s.Remove(name) == nil {
			t.Errorf("%q is a name", name)
		}
	}
	if err := s.Put(strings.Repeat("x", 255), 0); err != nil {
		t.Error(err)
	}
}

func TestBarrier(t *testing.T) {
	socket := newQueue(t)
	s := open(t)
	ended := make(chan error)
	go func() { ended <- s.Barrier(t.Context()) }()
	if got := next(t, socket); got != "BARRIER=1+1" { // and closes the descriptor
		t.Errorf("got %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { ended <- s.Barrier(ctx) }()
	reason := errors.New("no more time")
	cancel(reason)
	if err := <-ended; !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

// TestQueueIsFull has a manager that does not read.
func TestQueueIsFull(t *testing.T) {
	newQueue(t)
	s := open(t)
	for {
		if err := s.Notify(Watchdog); err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				t.Errorf("got %v", err)
			}
			return
		}
	}
}

func TestWatchdogInterval(t *testing.T) {
	self := fmt.Sprint(os.Getpid())
	for _, test := range []struct {
		µs, pid string
		want    time.Duration
	}{
		{"", "", 0}, {"5000000", self, 5 * time.Second}, {"5000000", "", 5 * time.Second}, {"5000000", "1", 0},
		{"0", self, 0}, {"-1", self, 0}, {"x", self, 0},
	} {
		t.Setenv(watchdogTime, test.µs)
		t.Setenv(watchdogPID, test.pid)
		if got := WatchdogInterval(); got != test.want {
			t.Errorf("%q of %q: %v, want %v", test.µs, test.pid, got, test.want)
		}
	}
}

// TestShelf keeps what fits, once each, and closes the rest.
func TestShelf(t *testing.T) {
	s := &shelf{log: testLog(), size: 3}
	file := tempFile(t)
	copied := func() int {
		fd, err := unix.Dup(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	kept := func() (n int) {
		for _, target := range openDescriptors(t) {
			if target == file.Name() {
				n++
			}
		}
		return n - 1
	}
	s.put("a", copied())
	s.put("a", copied()) // the same file under the same name
	s.put("b", copied())
	s.put("", copied())
	s.put("c", copied())
	s.put("d", copied()) // one too many
	if n := kept(); n != 3 {
		t.Errorf("%d descriptors are kept", n)
	}
	s.remove("b")
	s.remove("nothing")
	if n := kept(); n != 2 {
		t.Errorf("%d descriptors are kept after one was removed", n)
	}
	s.clear()
	s.size = maxDescriptors
	long := strings.Repeat("x", maxName-8)
	for i := range 2 * maxNames / maxName {
		s.put(fmt.Sprintf("%s%d", long, i), copied())
	}
	names := 0
	for _, k := range s.kept {
		names += len(k.name) + 1
	}
	if names > maxNames || names < maxNames-maxName {
		t.Errorf("the names have %d bytes", names)
	}
	s.clear()
}
