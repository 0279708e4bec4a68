package keep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// FallbackOptions say what a fallback does.
type FallbackOptions struct {
	Path        string        // of its socket, where it is not started with one
	AnswerAfter time.Duration // without a broker that is ready, after which it answers
	Unit        string        // of systemd's, of the broker: answer at once when it is stopped; empty: none
	Log         *slog.Logger
	Journal     string // path of the broker's journal; empty: it has none
}

const (
	// idleTimeout is how long a fallback waits for the broker because of which systemd has started it.
	idleTimeout = 10 * time.Second
	// unitPeriod is how often it looks at the broker's unit while that may come back.
	unitPeriod = 250 * time.Millisecond
	// unitTimeout bounds one look.
	unitTimeout = 5 * time.Second
	// batch is how many descriptors a fallback sends in one message.
	batch = 200
	// peerTimeout bounds how long a message between broker and fallback waits.
	peerTimeout = 5 * time.Second
)

// fallback answers for a broker that has ended for good, or does not start. It has a socket of type SOCK_SEQPACKET.
// On a connection come the messages of the descriptor store; X_INTERCEDE_TAKE=1 asks for all descriptors. While the
// broker that has said X_INTERCEDE_TAKEOVER=1 is connected, the fallback does not answer. One that has said READY=1
// has them from then on, and the fallback gives them up.
type fallback struct {
	FallbackOptions
	loop     *loop
	shelf    *shelf
	answerer *answerer
	buffer   []byte

	listening    int
	listeningKey int64
	conn         int // -1: no broker is connected
	connKey      int64

	owns    bool      // the broker receives from the listeners
	missing time.Time // since when no broker is ready; zero: there is nothing to answer
	stopped bool      // the unit is: no broker will come
	look    time.Time // at the unit, next
	idle    time.Time // when it ends if nobody has connected
	over    bool
}

// RunFallback answers for a broker, as [fallback] says, until the last container has ended or SIGTERM comes. What it
// has is lost then.
func RunFallback(options FallbackOptions) (err error) {
	f := &fallback{FallbackOptions: options, buffer: make([]byte, maxMessage), conn: -1}
	if f.loop, err = newLoop(); err != nil {
		return err
	}
	defer f.loop.close()
	if err := f.prepare(); err != nil {
		return err
	}
	f.idle = time.Now().Add(idleTimeout)
	f.settle(time.Now())
	for !f.over {
		if err := f.loop.wait(f.nextTime()); err != nil {
			return err
		}
		f.work(time.Now())
	}
	f.Log.Info("fallback ends", "descriptors", len(f.shelf.kept))
	return nil
}

// prepare takes over what a keeper has left behind, and the socket.
func (f *fallback) prepare() error {
	size, err := storeRoom()
	if err != nil {
		return err
	}
	if err := linux.SetOOMScoreAdj(keeperOOMScoreAdj); err != nil {
		return err
	}
	f.shelf = &shelf{log: f.Log, size: size}
	f.answerer = newAnswerer(f.loop, f.shelf, f.Log, f.Journal)
	left, err := readState()
	if err != nil {
		return err
	}
	if left != nil {
		f.shelf.setKept(left.Kept)
		f.listening = left.Listening
		unix.CloseOnExec(f.listening)
		f.missing, f.stopped = time.Now(), true
	} else if err := f.openSocket(); err != nil {
		return err
	}
	f.listeningKey, err = f.loop.watch(f.listening, unix.EPOLLIN, func(uint32) { f.accept() })
	if err != nil {
		return err
	}
	return f.loop.onSignals(func(os.Signal) { f.over = true }, unix.SIGTERM, unix.SIGINT)
}

// openSocket takes the socket that this process was started with, or makes it.
func (f *fallback) openSocket() error {
	inherited, err := Inherited()
	if err != nil {
		return err
	}
	if len(inherited) == 0 {
		f.listening, err = bindFallback(f.Path)
		return err
	}
	defer closeAll(inherited)
	f.listening, err = unix.FcntlInt(inherited[0].File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return os.NewSyscallError("fcntl", err)
}

// bindFallback makes the socket of a fallback at the path, for root alone. It replaces one that nobody serves.
func bindFallback(path string) (socket int, err error) {
	if path == "" {
		return -1, errNoFallback
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return -1, err
	}
	socket, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := bindOver(socket, path); err != nil {
		unix.Close(socket)
		return -1, fmt.Errorf("bind %q: %w", path, err)
	}
	return socket, nil
}

func bindOver(socket int, path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		served, err := dialFallback(path)
		if err == nil {
			served.close() // it takes one connection at a time
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return unix.EADDRINUSE
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	// bind(2) gives the new file this mode less the umask.
	if err := unix.Fchmod(socket, 0o600); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: path}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", unix.Listen(socket, 16))
}

// accept takes the next broker's connection, and no other until that ends.
func (f *fallback) accept() {
	conn, _, err := unix.Accept4(f.listening, unix.SOCK_CLOEXEC)
	if err != nil {
		f.Log.Warn("accept a broker", "error", err)
		return
	}
	if err := f.admit(conn); err != nil {
		f.Log.Warn("a connection is refused", "error", err)
		unix.Close(conn)
		return
	}
	f.loop.forget(f.listeningKey, f.listening)
	f.conn, f.idle, f.look, f.stopped = conn, time.Now(), time.Time{}, false
}

// admit has the peer's messages handled, if it is root or this process's user.
func (f *fallback) admit(conn int) (err error) {
	peer, err := unix.GetsockoptUcred(conn, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d is not root", peer.Uid)
	}
	if err := setTimeouts(conn); err != nil {
		return err
	}
	f.connKey, err = f.loop.watch(conn, unix.EPOLLIN, func(uint32) { f.readMessage(time.Now()) })
	return err
}

func (f *fallback) readMessage(now time.Time) {
	m, err := receive(f.conn, f.buffer)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil || len(m.data) == 0 {
		linux.CloseAll(m.fds...)
		f.disconnect(now)
		return
	}
	n := f.shelf.read(m)
	if n.take {
		if err := f.sendAll(); err != nil {
			f.Log.Error("descriptors are not handed over", "error", err)
			f.disconnect(now)
			return
		}
	}
	if n.takeOver || n.ready {
		f.owns = true
		f.answerer.stop()
	}
	switch {
	case n.ready:
		f.shelf.clear()
		f.missing = time.Time{}
	case f.missing.IsZero():
		f.missing = now
	}
}

// sendAll sends copies of all descriptors, and a message without one at the end.
func (f *fallback) sendAll() error {
	for part := range slices.Chunk(f.shelf.kept, batch) {
		names, fds := make([]string, len(part)), make([]int, len(part))
		for i, k := range part {
			names[i], fds[i] = k.name, k.fd
		}
		if err := linux.Send(f.conn, []byte(strings.Join(names, ":")), fds...); err != nil {
			return err
		}
	}
	return linux.Send(f.conn, []byte(":"))
}

// disconnect is the end of the broker's connection: it has ended, or has nothing more to say.
func (f *fallback) disconnect(now time.Time) {
	f.loop.forget(f.connKey, f.conn)
	unix.Close(f.conn)
	f.conn = -1
	if f.owns {
		f.owns, f.missing = false, now
	}
	key, err := f.loop.watch(f.listening, unix.EPOLLIN, func(uint32) { f.accept() })
	if err != nil {
		f.Log.Error("no broker can connect", "error", err)
	}
	f.listeningKey = key
	f.settle(now)
}

// settle plans what comes when no broker is connected.
func (f *fallback) settle(now time.Time) {
	if f.Unit != "" && f.shelf.needsAnswers() {
		f.look = now
	}
	f.work(now)
}

// work does what is due.
func (f *fallback) work(now time.Time) {
	if f.conn < 0 && !f.shelf.needsAnswers() {
		f.over = f.over || isDue(f.idle, now)
		return
	}
	if f.waits() && isDue(f.look, now) {
		f.stopped = isStopped(f.Unit)
		f.look = now.Add(unitPeriod)
	}
	if f.waits() && isDue(f.answerTime(), now) {
		f.answerer.start()
	}
}

// waits reports whether calls wait for a broker.
func (f *fallback) waits() bool {
	return !f.owns && !f.answerer.running && !f.missing.IsZero() && f.shelf.needsAnswers()
}

// answerTime is when the fallback begins to answer.
func (f *fallback) answerTime() time.Time {
	if f.stopped {
		return f.missing
	}
	return f.missing.Add(f.AnswerAfter)
}

func (f *fallback) nextTime() time.Time {
	if f.conn < 0 && !f.shelf.needsAnswers() {
		return f.idle
	}
	if !f.waits() {
		return time.Time{}
	}
	if f.Unit == "" || f.conn >= 0 {
		return f.answerTime()
	}
	return earliest(f.answerTime(), f.look)
}

// isStopped reports whether systemd's unit is stopped, and nothing is about to start it again.
func isStopped(unit string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), unitTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=ActiveState,Job", unit).Output()
	if err != nil {
		return false
	}
	state, job := "", ""
	for line := range strings.SplitSeq(string(out), "\n") {
		switch key, value, _ := strings.Cut(line, "="); key {
		case "ActiveState":
			state = value
		case "Job":
			job = value
		}
	}
	return (state == "inactive" || state == "failed") && (job == "" || job == "0")
}

// leaveFallback leaves the descriptors to a fallback: the one that serves the path, or a new one.
func (k *keeper) leaveFallback() error {
	if k.Fallback == "" {
		return errNoFallback
	}
	client, err := dialFallback(k.Fallback)
	if err == nil {
		defer client.close()
		return client.putAll(k.shelf.kept)
	}
	listening, err := bindFallback(k.Fallback)
	if err != nil {
		return err
	}
	s := state{Version: StateVersion, Listening: firstDescriptor}
	fds := []int{listening}
	for _, kept := range k.shelf.kept {
		s.Kept = append(s.Kept, keptState{kept.name, firstDescriptor + len(fds)})
		fds = append(fds, kept.fd)
	}
	file, err := s.write()
	if err != nil {
		return err
	}
	env := append(environment(), fmt.Sprintf("%s=%d", stateVariable, firstDescriptor+len(fds)))
	fds = append(fds, int(file.Fd()))
	program, err := os.Executable()
	if err != nil {
		return err
	}
	pid, err := startProcess([]string{program, "keep", "--answer", "--fallback", k.Fallback, "--journal", k.Journal}, env, fds, k.oom, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		return err
	}
	k.Log.Warn("calls of containers go on in the kernel from now on, until a broker comes", "pid", pid, "descriptors", len(k.shelf.kept))
	return nil
}

// takeFromFallback takes what a keeper before this one has left behind.
func (k *keeper) takeFromFallback() error {
	if k.Fallback == "" {
		return nil
	}
	client, err := dialFallback(k.Fallback)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return err
	}
	defer client.close()
	taken, err := client.take()
	if err != nil {
		return fmt.Errorf("take what %q has: %w", k.Fallback, err)
	}
	k.shelf.kept = append(k.shelf.kept, taken...)
	// It gives them up when it reads this. Nothing is received before: the barrier is closed then.
	if err := errors.Join(client.say(takeOver), client.say(Ready), client.barrier()); err != nil {
		return err
	}
	k.Log.Info("the fallback's descriptors are taken over", "descriptors", len(taken))
	return nil
}
