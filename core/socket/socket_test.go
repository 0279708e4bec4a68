package socket

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shortDir is a folder whose path leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, path string) *Socket {
	t.Helper()
	s, err := Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func refused(t *testing.T, path string, want error) {
	t.Helper()
	s, err := Listen(path, nil)
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), path[:min(len(path), 20)]) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func missing(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there (%v)", path, err)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(shortDir(t), "new", "deep", "socket")
	for _, mask := range []int{0, 0o022, 0o777} {
		old := unix.Umask(mask)
		s, err := Listen(path, nil)
		unix.Umask(old)
		if mask == 0o777 && os.Geteuid() != 0 {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|fs.FileMode(0o600&^mask) {
			t.Errorf("umask %#o: mode %v, %v", mask, info.Mode(), err)
		}
		if lock, err := os.Lstat(path + ".lock"); err != nil || lock.Mode()&0o077 != 0 {
			t.Errorf("umask %#o: the lock's mode %v, %v", mask, lock.Mode(), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("a second close: %v", err)
		}
		missing(t, path, path+".lock")
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
}

func TestAccept(t *testing.T) {
	s := listen(t, filepath.Join(shortDir(t), "socket"))
	client, err := net.Dial("unix", s.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := s.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := s.Accept(ctx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	second, err := net.Dial("unix", s.Path()) // the socket goes on
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if conn, err = s.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestLiveSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	s := listen(t, path)
	refused(t, path, ErrInUse)
	os.Remove(path + ".lock") // somebody tidied up: the socket itself still answers
	refused(t, path, ErrInUse)
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first no longer answers: %v", err)
	} else {
		conn.Close()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestForeignSocket finds sockets of programs that know no lock.
func TestForeignSocket(t *testing.T) {
	for name, network := range map[string]string{"stream": "unix", "packets": "unixpacket"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "socket")
			l, err := net.Listen(network, path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			refused(t, path, ErrInUse)
			missing(t, path+".lock")
		})
	}
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil { // a broker that was killed leaves it
		t.Fatal(err)
	}
	s := listen(t, path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestInTheWay finds files that are no socket: they stay as they are.
func TestInTheWay(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a file":          func(path string) error { return os.WriteFile(path, []byte("text"), 0o600) },
		"an empty file":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a folder":        func(path string) error { return os.Mkdir(path, 0o700) },
		"a link":          func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a dangling link": func(path string) error { return os.Symlink("nowhere", path) },
		"a FIFO":          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a lock with text": func(path string) error {
			return os.WriteFile(path+".lock", []byte("text"), 0o600)
		},
		"a lock that is a FIFO": func(path string) error { return unix.Mkfifo(path+".lock", 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := shortDir(t)
			path := filepath.Join(dir, "socket")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(dir)
			refused(t, path, fs.ErrExist)
			after, _ := os.ReadDir(dir)
			if len(before) != 1 || len(after) != 1 || before[0].Name() != after[0].Name() || before[0].Type() != after[0].Type() {
				t.Errorf("before %v, after %v", before, after)
			}
		})
	}
	t.Run("a lock that is a link", func(t *testing.T) {
		dir := shortDir(t)
		if err := os.Symlink("victim", filepath.Join(dir, "socket.lock")); err != nil {
			t.Fatal(err)
		}
		refused(t, filepath.Join(dir, "socket"), unix.ELOOP)
		missing(t, filepath.Join(dir, "victim"))
	})
}

func TestPathRefused(t *testing.T) {
	for name, test := range map[string]struct {
		path string
		want error
	}{
		"relative": {"socket", unix.EINVAL},
		"abstract": {"@intercede", unix.EINVAL},
		"empty":    {"", unix.EINVAL},
		"NUL":      {"/tmp/a\x00b", unix.EINVAL},
		"long":     {"/tmp/" + strings.Repeat("x", MaxPath-4), unix.ENAMETOOLONG},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Listen(test.path, nil); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	long := filepath.Join(shortDir(t), "x")
	long += strings.Repeat("x", MaxPath-len(long))
	listen(t, long)
}

// TestRace starts many at once: at any time at most one has the socket.
func TestRace(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	var owners, won atomic.Int32
	var racing sync.WaitGroup
	for range 16 {
		racing.Go(func() {
			for range 50 {
				s, err := Listen(path, nil)
				if errors.Is(err, ErrInUse) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				won.Add(1)
				if owners.Add(1) != 1 {
					t.Error("two have the socket")
				}
				owners.Add(-1)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	racing.Wait()
	if won.Load() == 0 {
		t.Error("nobody had it")
	}
	missing(t, path, path+".lock")
}

// TestCloseLeavesSuccessor closes a socket whose path is another's by now.
func TestCloseLeavesSuccessor(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	s := listen(t, path)
	os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the successor's socket is gone: %v", err)
	}
	conn.Close()
}

// places is room for so many connections.
type places chan struct{}

func (p places) TryTake() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p places) Take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p places) Give() { <-p }

// TestNoRoom has room for two connections: nobody can connect while both are there, nor after Close.
func TestNoRoom(t *testing.T) {
	path := filepath.Join(shortDir(t), "socket")
	s := listen(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	var running sync.WaitGroup
	go func() {
		served <- s.Serve(ctx, Service{
			Most: 100, Room: make(places, 2), Withdraw: true, Running: &running,
			Refused: func(_ unix.Ucred, err error) { t.Error(err) },
			Handle: func(conn *net.UnixConn, _ unix.Ucred) {
				conn.Read(make([]byte, 1))
				conn.Close()
			},
		})
	}()
	await := func(want error) {
		for !errors.Is(connectOnce(path), want) {
			time.Sleep(time.Millisecond)
		}
	}
	connect := func() net.Conn {
		for {
			conn, err := net.Dial("unix", path)
			if err == nil {
				return conn
			}
			time.Sleep(time.Millisecond)
		}
	}
	first, second := connect(), connect()
	await(unix.ENOENT)
	first.Close()
	await(nil)
	third := connect()
	await(unix.ENOENT)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	second.Close()
	third.Close()
	running.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	missing(t, path, path+withdrawnSuffix, path+".lock")
}
