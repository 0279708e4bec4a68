// Package socket owns a Unix socket in the filesystem: bound by one process at a time, private from its creation,
// replaced when it is stale, and removed when it is closed.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// MaxPath is what sun_path holds beside its terminating NUL, in bytes.
const MaxPath = len(unix.RawSockaddrUnix{}.Path) - 1

// ErrInUse is returned by [Listen] when another process serves the path.
var ErrInUse = errors.New("a running broker owns the socket")

// Listen binds a stream socket at path, an absolute path of at most 107 bytes. The socket has mode 0600 from its
// creation; the umask can only narrow that. A missing parent directory, with its missing ancestors, is created with
// mode 0700.
//
// Who may bind is settled by an exclusive flock on the empty file path+".lock", held until Close: of several brokers
// started at once, one wins. Its holder removes a socket that nobody serves any more, and nothing that is not a socket.
//
// Returns an error wrapping [ErrInUse] when the lock is held or something answers on the socket, fs.ErrExist when a
// file of another kind is in the way, unix.ENAMETOOLONG or unix.EINVAL for an unusable path.
//
// A socket that is kept is taken instead: see [Kept]. Its file stays when it is closed.
func Listen(path string, kept *Kept) (*Socket, error) { return bind("unix", path, kept) }

// ListenPackets is [Listen] for a socket of SOCK_SEQPACKET, whose messages keep their bounds.
func ListenPackets(path string, kept *Kept) (*Socket, error) { return bind("unixpacket", path, kept) }

func bind(network, path string, kept *Kept) (*Socket, error) {
	socket, err := bindSocket(network, path, kept)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", path, err)
	}
	return socket, nil
}

// Socket is a listening socket together with the files that stand for it.
type Socket struct {
	path     string
	listener *net.UnixListener
	file     fs.FileInfo
	lock     *lockFile
	outlives bool // its file stays
	close    func() error

	moving    sync.Mutex // held while the path changes
	withdrawn bool
}

func bindSocket(network, path string, kept *Kept) (*Socket, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("creating its directory: %w", err)
	}
	lock, err := acquireLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	socket, err := bindLocked(network, path, lock, kept)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return socket, nil
}

// bindLocked takes the socket at path that is kept, or replaces a stale one and binds path. The caller keeps the lock
// when it fails.
func bindLocked(network, path string, lock *lockFile, kept *Kept) (*Socket, error) {
	listener, outlives, err := open(network, path, kept)
	if err != nil {
		return nil, err
	}
	file, err := os.Lstat(path)
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("looking at the socket just bound: %w", err)
	}
	socket := &Socket{path: path, listener: listener, file: file, lock: lock, outlives: outlives}
	socket.close = sync.OnceValue(socket.release)
	return socket, nil
}

// open reports besides whether the socket outlives this process.
func open(network, path string, kept *Kept) (listener *net.UnixListener, outlives bool, err error) {
	if file := kept.take(network, path); file != nil {
		listener, err := adopt(file, path)
		if !errors.Is(err, fs.ErrNotExist) {
			return listener, true, err
		}
	}
	if err := removeStale(path); err != nil {
		return nil, false, err
	}
	if listener, err = bindPrivately(network, path); err != nil {
		return nil, false, err
	}
	if err := kept.put(network, path, listener); err != nil {
		listener.Close()
		return nil, false, err
	}
	return listener, kept != nil && kept.Put != nil, nil
}

// bindPrivately binds and listens. The mode is set on the unbound socket: Linux's bind gives the new file that mode
// less the umask, so that there is no moment at which others may connect.
func bindPrivately(network, path string) (*net.UnixListener, error) {
	restrict := func(_, _ string, raw syscall.RawConn) error {
		var failure error
		err := raw.Control(func(fd uintptr) {
			failure = os.NewSyscallError("fchmod", unix.Fchmod(int(fd), 0o600))
		})
		return errors.Join(err, failure)
	}
	listener, err := (&net.ListenConfig{Control: restrict}).Listen(context.Background(), network, path)
	if err != nil {
		return nil, err
	}
	unixListener := listener.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false)
	return unixListener, nil
}

// Accept waits for a connection or for ctx to be done.
func (s *Socket) Accept(ctx context.Context) (*net.UnixConn, error) {
	if err := s.listener.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		s.listener.SetDeadline(time.Unix(1, 0))
	})
	conn, err := s.listener.AcceptUnix()
	if !stop() {
		<-interrupted
	}
	return conn, err
}

// Path is where the socket is bound.
func (s *Socket) Path() string { return s.path }

// Listener is the socket's own; it is closed by Close.
func (s *Socket) Listener() net.Listener { return s.listener }

// Close removes the socket and its lock file, each only where it is still the one that Listen made, and stops
// listening. A second call does nothing.
func (s *Socket) Close() error { return s.close() }

// withdraw moves the socket away from its path, so that nobody can connect. What has connected stays so.
func (s *Socket) withdraw() { s.move(s.path, s.path+withdrawnSuffix, true) }

// restore brings it back.
func (s *Socket) restore() { s.move(s.path+withdrawnSuffix, s.path, false) }

// withdrawnSuffix follows the path of a socket while nobody can connect. A file that is left over is replaced.
const withdrawnSuffix = ".full"

func (s *Socket) move(from, to string, withdrawn bool) {
	s.moving.Lock()
	defer s.moving.Unlock()
	if s.withdrawn == withdrawn {
		return
	}
	// Another one may be at the path, of a broker that does not heed the lock.
	if info, err := os.Lstat(from); err != nil || !os.SameFile(info, s.file) {
		return
	}
	if os.Rename(from, to) == nil {
		s.withdrawn = withdrawn
	}
}

// release removes the files while the lock still keeps other brokers off, then lets go of the lock.
func (s *Socket) release() error {
	s.restore()
	var removed error
	if !s.outlives {
		removed = removeIfSame(s.path, s.file)
	}
	return errors.Join(removed, s.listener.Close(), s.lock.release())
}

// CheckPath refuses what cannot be a socket's path, before the kernel does so with less explanation.
func CheckPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("%w: the path is not absolute; runtimes resolve it in directories of their own", unix.EINVAL)
	case strings.ContainsRune(path, 0):
		return fmt.Errorf("%w: the path contains a NUL byte", unix.EINVAL)
	case len(path) > MaxPath:
		return fmt.Errorf("%w: the path has %d bytes and a Unix socket's may have %d; choose a shorter one",
			unix.ENAMETOOLONG, len(path), MaxPath)
	}
	return nil
}

// removeStale clears path for binding: nothing there is fine, a socket that nobody serves is removed.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for an older socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w: something that is not a socket is there; move it away or choose another path", fs.ErrExist)
	}
	if err := connectOnce(path); !errors.Is(err, unix.ECONNREFUSED) {
		return stillServed(err)
	}
	return removeIfSame(path, info)
}

// stillServed explains a probe that was not refused: connected, or stopped by a full backlog, another socket type or
// permissions. Each means that the socket may be somebody's.
func stillServed(probe error) error {
	if probe == nil {
		return fmt.Errorf("%w: something answers on it; stop that or choose another path", ErrInUse)
	}
	return fmt.Errorf("%w: cannot tell that it is stale (%w); stop its owner, or remove it, or choose another path",
		ErrInUse, probe)
}

// connectOnce connects without waiting and hangs up. Returns ECONNREFUSED for a socket file without a socket behind it.
func connectOnce(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrUnix{Name: path}))
}

// removeIfSame removes path where it still is the file that want describes.
func removeIfSame(path string, want fs.FileInfo) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, want) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(path)
}
