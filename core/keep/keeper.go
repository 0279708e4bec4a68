package keep

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// Options say what a keeper does.
type Options struct {
	Command     []string      // of the broker
	AnswerAfter time.Duration // without a broker that is ready, after which the keeper answers
	Watchdog    time.Duration // without a sign of life, after which the broker is ended; 0: it need not give any
	Fallback    string        // path of a socket: see RunFallback
	Log         *slog.Logger
	Journal     string // path of the broker's journal; empty: it has none
}

const (
	// firstPause is between the end of a broker and the next start; it doubles with each that does not become ready.
	firstPause = 50 * time.Millisecond
	maxPause   = 5 * time.Second
	// startTimeout bounds how long a broker takes to become ready. Its plugins may take long on a busy host.
	startTimeout = 90 * time.Second
	// stopTimeout bounds how long a broker takes to end after SIGTERM.
	stopTimeout = 60 * time.Second
	// abortTimeout bounds how long a broker takes to end after SIGABRT, by which a Go program writes down what it does.
	abortTimeout = 5 * time.Second

	// reserve is how many descriptors the keeper leaves free for itself.
	reserve = 64

	// keeperOOMScoreAdj is of a process that the OOM killer never chooses: all containers depend on it, and it is
	// small.
	keeperOOMScoreAdj = -1000
)

// keeper keeps the descriptors of one broker, which is its child.
type keeper struct {
	Options
	loop     *loop
	shelf    *shelf
	answerer *answerer

	notify  int    // the socket of NOTIFY_SOCKET
	dir     string // it is in
	buffer  []byte
	oom     int // oom_score_adj for the broker
	helpers map[int]func(syscall.WaitStatus)

	broker    int       // process ID; 0: none runs
	ready     bool      // it has said so
	everReady bool      // one of them has
	owns      bool      // it receives from the listeners
	stopping  bool      // so does the keeper
	missing   time.Time // since when no broker is ready; zero: one is
	next      time.Time // start of a broker; zero: not planned
	pause     time.Duration
	limit     time.Time // when the broker has to be ready, to give a sign of life, or to have ended; zero: no matter
	aborted   bool      // it was told to end because it did not keep the limit
	status    syscall.WaitStatus
}

// Run starts the command and keeps its descriptors, and starts it again when it ends, until SIGTERM or SIGINT comes.
// The command gets these and SIGHUP and SIGUSR1; at SIGUSR2 the keeper executes its own program anew. It returns the
// exit status: that of the broker if the first one could not start.
//
// Calls that need an answer after that are left to a process that answers them: see [RunFallback].
func Run(options Options) (status int, err error) {
	k := &keeper{
		Options: options, buffer: make([]byte, maxMessage), helpers: map[int]func(syscall.WaitStatus){}, pause: firstPause, notify: -1,
	}
	if k.loop, err = newLoop(); err != nil {
		return 1, err
	}
	defer k.loop.close()
	if err := k.prepare(); err != nil {
		return 1, err
	}
	defer os.RemoveAll(k.dir)
	for !k.isOver() {
		k.work(time.Now())
		if k.isOver() {
			break
		}
		if err := k.loop.wait(k.nextTime()); err != nil {
			return 1, err
		}
	}
	return k.end()
}

// maxMessage bounds a message, in bytes, as systemd does (NOTIFY_BUFFER_MAX, src/core/manager.c).
const maxMessage = 4096

// prepare takes over what a keeper before this one has left, and opens the broker's way to this one.
func (k *keeper) prepare() error {
	size, err := storeRoom()
	if err != nil {
		return err
	}
	k.shelf = &shelf{log: k.Log, size: size}
	k.answerer = newAnswerer(k.loop, k.shelf, k.Log, k.Journal)
	resumed, err := k.resume()
	if err != nil {
		return err
	}
	if !resumed {
		if err := k.begin(); err != nil {
			return err
		}
	}
	if _, err := k.loop.watch(k.notify, unix.EPOLLIN, func(uint32) { k.readMessage() }); err != nil {
		return err
	}
	if err := k.loop.onSignals(k.onSignal, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCHLD); err != nil {
		return err
	}
	k.reap() // what ended before signals were taken
	return nil
}

// begin is the start of a keeper that is not a successor of one in this process.
func (k *keeper) begin() (err error) {
	if k.oom, err = linux.OOMScoreAdj(); err != nil {
		return err
	}
	if err := linux.SetOOMScoreAdj(keeperOOMScoreAdj); err != nil {
		return err
	}
	if err := k.bindNotify(); err != nil {
		return err
	}
	if err := k.takeFromFallback(); err != nil {
		return err
	}
	k.missing, k.next = time.Now(), time.Now()
	return nil
}

// storeRoom is how many descriptors a keeper can have besides its own.
func storeRoom() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	if limit.Cur < 2*reserve {
		return 0, fmt.Errorf("RLIMIT_NOFILE is %d: want %d at least", limit.Cur, 2*reserve)
	}
	return int(min(limit.Cur, maxDescriptors)) - reserve, nil
}

// bindNotify makes the socket on which the broker sends. Its folder is root's alone: an abstract address would let each
// container of the same network namespace fill the queue.
func (k *keeper) bindNotify() (err error) {
	if k.dir, err = os.MkdirTemp("", "intercede-keep-"); err != nil {
		return err
	}
	k.notify, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(k.notify, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_PASSCRED", err)
	}
	if err := unix.Bind(k.notify, &unix.SockaddrUnix{Name: k.notifyPath()}); err != nil {
		return fmt.Errorf("bind %q: %w", k.notifyPath(), err)
	}
	return nil
}

func (k *keeper) notifyPath() string { return filepath.Join(k.dir, "notify") }

// isOver reports whether there is nothing left to keep a broker for.
func (k *keeper) isOver() bool {
	if k.broker != 0 || len(k.helpers) > 0 {
		return false
	}
	return k.stopping || k.next.IsZero()
}

// work does what is due.
func (k *keeper) work(now time.Time) {
	if k.broker == 0 && isDue(k.next, now) {
		k.startBroker(now)
	}
	if k.broker != 0 && isDue(k.limit, now) {
		k.endBroker(now)
	}
	if !k.owns && isDue(k.answerTime(), now) {
		k.answerer.start()
	}
}

func isDue(then, now time.Time) bool { return !then.IsZero() && !then.After(now) }

// answerTime is when the keeper begins to answer; zero: not without another event.
func (k *keeper) answerTime() time.Time {
	if k.missing.IsZero() || k.owns || k.answerer.running || !k.shelf.needsAnswers() {
		return time.Time{}
	}
	return k.missing.Add(k.AnswerAfter)
}

func (k *keeper) nextTime() time.Time {
	limit, next := k.limit, k.next
	if k.broker != 0 {
		next = time.Time{}
	} else {
		limit = time.Time{}
	}
	return earliest(limit, next, k.answerTime())
}

// startBroker starts the next broker, with all descriptors.
func (k *keeper) startBroker(now time.Time) {
	env := append(environment(), notifySocket+"="+k.notifyPath(), fmt.Sprintf("%s=%d", storeSize, k.shelf.size))
	if k.Watchdog > 0 {
		env = append(env, fmt.Sprintf("%s=%d", watchdogTime, k.Watchdog.Microseconds()), watchdogPID+"="+selfPID)
	}
	fds := make([]int, len(k.shelf.kept))
	if len(fds) > 0 {
		names := make([]string, len(fds))
		for i, kept := range k.shelf.kept {
			fds[i], names[i] = kept.fd, kept.name
		}
		env = append(env, listenPID+"="+selfPID, fmt.Sprintf("%s=%d", listenFDs, len(fds)), listenNames+"="+strings.Join(names, ":"))
	}
	pid, err := startProcess(k.Command, env, fds, k.oom, nil)
	if err != nil {
		k.status = 127 << 8 // as a shell has it for a command that it does not find
		k.Log.Error("the broker cannot be started", "error", err)
		k.brokerIsGone(now)
		return
	}
	k.broker, k.ready, k.owns, k.aborted = pid, false, false, false
	k.next, k.limit = time.Time{}, now.Add(startTimeout)
	k.Log.Info("broker started", "pid", pid, "descriptors", len(fds))
}

// endBroker ends a broker that did not keep its limit.
func (k *keeper) endBroker(now time.Time) {
	if k.aborted || k.stopping {
		k.Log.Error("the broker does not end: it is killed", "pid", k.broker)
		unix.Kill(k.broker, unix.SIGKILL)
		k.limit = time.Time{}
		return
	}
	k.Log.Error("the broker gives no sign of life: it is ended", "pid", k.broker, "ready", k.ready)
	unix.Kill(k.broker, unix.SIGABRT)
	k.aborted, k.limit = true, now.Add(abortTimeout)
}

// readMessage reads one message, which counts only if the broker itself has sent it: its plugins are not trusted.
func (k *keeper) readMessage() (any bool) {
	m, err := receive(k.notify, k.buffer)
	if err != nil {
		return false
	}
	if m.pid == 0 || int(m.pid) != k.broker {
		k.Log.Warn("a message of another process than the broker is not heeded", "pid", m.pid)
		linux.CloseAll(m.fds...)
		return true
	}
	n := k.shelf.read(m)
	if n.takeOver || n.ready {
		k.owns = true
		k.answerer.stop()
	}
	switch {
	case n.ready:
		k.ready, k.everReady, k.pause, k.missing = true, true, firstPause, time.Time{}
		k.extendLimit()
		k.Log.Info("broker is ready", "pid", k.broker, "descriptors", len(k.shelf.kept))
	case n.alive && k.ready:
		k.extendLimit()
	}
	return true
}

// extendLimit gives a broker that is ready the time until its next sign of life.
func (k *keeper) extendLimit() {
	if k.stopping || k.aborted {
		return
	}
	k.limit = time.Time{}
	if k.Watchdog > 0 {
		k.limit = time.Now().Add(k.Watchdog)
	}
}

func (k *keeper) onSignal(s os.Signal) {
	switch s {
	case unix.SIGCHLD:
		k.reap()
	case unix.SIGUSR2:
		k.upgrade()
	case unix.SIGTERM, unix.SIGINT:
		k.stop()
	default:
		if k.broker != 0 {
			unix.Kill(k.broker, s.(syscall.Signal))
		}
	}
}

// stop ends the broker and then the keeper. The second time it does not wait.
func (k *keeper) stop() {
	switch {
	case k.broker == 0:
	case k.stopping:
		unix.Kill(k.broker, unix.SIGKILL)
	default:
		unix.Kill(k.broker, unix.SIGTERM)
		k.limit = time.Now().Add(stopTimeout)
	}
	k.stopping = true
}

// reap takes the exit statuses of all children that have ended. As first process of a pid namespace the keeper has
// children that it did not start.
func (k *keeper) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if pid == k.broker {
			k.status = status
			// What it has sent counts still.
			for k.readMessage() {
			}
			k.Log.Warn("broker has ended", "pid", pid, "status", describe(status))
			k.broker = 0
			k.brokerIsGone(time.Now())
		} else if ended := k.helpers[pid]; ended != nil {
			delete(k.helpers, pid)
			ended(status)
		}
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("ended by signal %d (%v)", status.Signal(), status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// brokerIsGone plans the start of the next broker.
func (k *keeper) brokerIsGone(now time.Time) {
	if k.missing.IsZero() {
		k.missing = now
	}
	k.ready, k.owns = false, false
	k.next = now.Add(k.pause)
	k.pause = min(2*k.pause, maxPause)
	if !k.everReady && len(k.shelf.kept) == 0 {
		k.next = time.Time{} // a command that cannot work; nobody depends on it
	}
}

// end leaves what still needs answers to a process that answers, and returns the exit status.
func (k *keeper) end() (status int, err error) {
	if !k.stopping {
		return k.exitStatus(), nil
	}
	if !k.shelf.needsAnswers() {
		return 0, nil
	}
	if err := k.leaveFallback(); err != nil {
		return 1, fmt.Errorf("calls of containers get ENOSYS from now on: %w", err)
	}
	return 0, nil
}

func (k *keeper) exitStatus() int {
	if k.status.Signaled() {
		return 128 + int(k.status.Signal())
	}
	return k.status.ExitStatus()
}

var errNoFallback = errors.New("no path is set for the socket of the process that would answer them")
