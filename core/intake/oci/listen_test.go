package oci

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/intercede/intercede/core/socket"
	"golang.org/x/sys/unix"
)

func TestListenMakesPrivateFiles(t *testing.T) {
	requireNoLeak(t)
	defer unix.Umask(unix.Umask(0))
	path := filepath.Join(shortDir(t), "a", "b", "s")
	server := listen(t, path)
	requireMode(t, path, fs.ModeSocket|0o600)
	requireMode(t, path+".lock", 0o600)
	requireMode(t, filepath.Dir(path), fs.ModeDir|0o700)
	requireMode(t, filepath.Dir(filepath.Dir(path)), fs.ModeDir|0o700)
	must(t, server.Close())
	requireAbsent(t, path)
	requireAbsent(t, path+".lock")
	must(t, server.Close())
}

func TestListenRefusesALiveBroker(t *testing.T) {
	requireNoLeak(t)
	path := filepath.Join(shortDir(t), "s")
	listen(t, path)
	requireRefused(t, path, ErrInUse)
	requireMode(t, path, fs.ModeSocket|0o600)
}

// A program that knows nothing of the lock owns the path.
func TestListenRefusesALiveSocketWithoutLock(t *testing.T) {
	for _, network := range []string{"unix", "unixpacket"} {
		t.Run(network, func(t *testing.T) {
			requireNoLeak(t)
			path := filepath.Join(shortDir(t), "s")
			other, err := net.Listen(network, path)
			must(t, err)
			defer other.Close()
			requireRefused(t, path, ErrInUse)
			requireAbsent(t, path+".lock")
		})
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	requireNoLeak(t)
	path := filepath.Join(shortDir(t), "s")
	makeStale(t, path)
	must(t, os.WriteFile(path+".lock", nil, 0o600))
	must(t, listen(t, path).Close())
	requireAbsent(t, path)
}

func TestListenRemovesNothingButSockets(t *testing.T) {
	for name, create := range map[string]func(path string) error{
		"file":             func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"empty file":       func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"directory":        func(path string) error { return os.Mkdir(path, 0o700) },
		"dangling symlink": func(path string) error { return os.Symlink("nowhere", path) },
		"fifo":             func(path string) error { return unix.Mkfifo(path, 0o600) },
		"lock with contents": func(path string) error {
			return os.WriteFile(path+".lock", []byte("precious"), 0o600)
		},
		"lock is a fifo": func(path string) error { return unix.Mkfifo(path+".lock", 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			requireNoLeak(t)
			path := filepath.Join(shortDir(t), "s")
			must(t, create(path))
			before := directory(t, filepath.Dir(path))
			requireRefused(t, path, fs.ErrExist)
			if after := directory(t, filepath.Dir(path)); after != before {
				t.Errorf("directory was %q and is %q", before, after)
			}
		})
	}
}

func TestListenDoesNotFollowALockThatIsASymlink(t *testing.T) {
	requireNoLeak(t)
	path := filepath.Join(shortDir(t), "s")
	must(t, os.Symlink("elsewhere", path+".lock"))
	requireRefused(t, path, unix.ELOOP)
	requireAbsent(t, filepath.Join(filepath.Dir(path), "elsewhere"))
}

func TestListenRefusesUnusablePaths(t *testing.T) {
	dir := shortDir(t)
	fits := dir + "/" + strings.Repeat("x", socket.MaxPath-len(dir)-1)
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"relative": {"s", unix.EINVAL},
		"abstract": {"@intercede", unix.EINVAL},
		"empty":    {"", unix.EINVAL},
		"NUL":      {dir + "/a\x00b", unix.EINVAL},
		"too long": {fits + "x", unix.ENAMETOOLONG},
	} {
		t.Run(name, func(t *testing.T) {
			requireNoLeak(t)
			requireRefused(t, c.path, c.want)
		})
	}
	t.Run("longest", func(t *testing.T) {
		requireNoLeak(t)
		listen(t, fits)
	})
}

func TestCloseLeavesWhatIsNotOurs(t *testing.T) {
	requireNoLeak(t)
	path := filepath.Join(shortDir(t), "s")
	server := listen(t, path)
	for _, name := range []string{path, path + ".lock"} {
		must(t, os.Remove(name))
		must(t, os.WriteFile(name, []byte("precious"), 0o600))
	}
	must(t, server.Close())
	requireMode(t, path, 0o600)
	requireMode(t, path+".lock", 0o600)
}

// Brokers that start and stop as fast as they can: never two at once, and an owner's socket is always there.
func TestOnlyOneBrokerAtATime(t *testing.T) {
	requireNoLeak(t)
	path := filepath.Join(shortDir(t), "s")
	var owners, turns atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for turns.Load() < 100 {
				server, err := Listen(path, Options{})
				if errors.Is(err, ErrInUse) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if owners.Add(1) != 1 {
					t.Error("two brokers own the path")
				}
				if err := probe(path); err != nil {
					t.Error(err)
				}
				turns.Add(1)
				owners.Add(-1)
				if err := server.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func listen(t *testing.T, path string) *Server {
	t.Helper()
	server, err := Listen(path, Options{})
	must(t, err)
	t.Cleanup(func() { server.Close() })
	return server
}

func requireRefused(t *testing.T, path string, want error) {
	t.Helper()
	server, err := Listen(path, Options{})
	if err == nil {
		server.Close()
		t.Fatal("not refused")
	}
	if !errors.Is(err, want) {
		t.Errorf("refused with %q, want %q", err, want)
	}
}

// makeStale leaves a socket file whose socket is closed.
func makeStale(t *testing.T, path string) {
	t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	listener.SetUnlinkOnClose(false)
	must(t, listener.Close())
	requireMode(t, path, fs.ModeSocket)
}

// requireMode compares the type, and the permissions if want has any.
func requireMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	got := info.Mode()
	if want.Perm() == 0 {
		got = got.Type()
	}
	if got != want {
		t.Errorf("%s has mode %v, want %v", path, got, want)
	}
}

func requireAbsent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

// directory lists the entries of dir with their modes.
func directory(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var list []string
	for _, entry := range entries {
		if entry.Name() != "s.lock" || !emptyFile(t, filepath.Join(dir, "s.lock")) {
			list = append(list, fs.FormatDirEntry(entry))
		}
	}
	return strings.Join(list, " ")
}

func emptyFile(t *testing.T, path string) bool {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return info.Mode().IsRegular() && info.Size() == 0
}

// probe connects without waiting and hangs up.
func probe(path string) error {
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	return err
}
