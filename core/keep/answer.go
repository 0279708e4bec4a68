package keep

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"

	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"golang.org/x/sys/unix"
)

// answerer answers while there is no broker: all calls go on in the kernel, as if they had never been intercepted.
//
// Only one process may receive from a listener at a time (internal/notify). So it answers between start and stop, and
// the broker says before it receives that the other has to stop: see [Store.TakeOver].
type answerer struct {
	loop    *loop
	shelf   *shelf
	log     *slog.Logger
	journal string // path of the broker's; empty: it has none

	running  bool
	watched  map[*kept]int64
	answered int
}

func newAnswerer(l *loop, s *shelf, log *slog.Logger, journal string) *answerer {
	a := &answerer{loop: l, shelf: s, log: log, journal: journal, watched: map[*kept]int64{}}
	s.added, s.dropped = a.add, a.forget
	return a
}

// start answers what comes from now on, and what a dead broker has left.
func (a *answerer) start() {
	if a.running {
		return
	}
	a.running = true
	for _, k := range a.shelf.kept {
		a.watch(k)
	}
	a.log.Warn("no broker is ready: calls of containers go on in the kernel, as if they were not intercepted", "descriptors", len(a.watched))
	a.answerOrphans()
}

// add is told of a new descriptor.
func (a *answerer) add(k *kept) {
	if a.running {
		a.watch(k)
	}
}

func (a *answerer) watch(k *kept) {
	var handle func(*kept) (open bool)
	switch {
	case k.isListener() && notify.FD(k.fd).RequireListener() == nil:
		handle = a.answerListener
	case k.isMonitor():
		handle = a.answerMonitor
	default:
		return
	}
	key, err := a.loop.watch(k.fd, unix.EPOLLIN, func(events uint32) {
		open := true
		switch {
		case events&unix.EPOLLIN != 0:
			open = handle(k)
		case events&unix.EPOLLHUP != 0:
			open = false // the last filtered task has ended, or the monitor
		}
		// EPOLLERR alone: a signal came while the kernel looked at a listener (seccomp_notify_poll, kernel/seccomp.c).
		if !open {
			a.drop(k)
		}
	})
	if err != nil {
		a.log.Error("calls of a container hang", "name", k.name, "error", err)
		return
	}
	a.watched[k] = key
}

// drop closes a descriptor over which nothing comes any more.
func (a *answerer) drop(k *kept) { a.shelf.removeIf(func(other *kept) bool { return other == k }) }

func (a *answerer) forget(k *kept) {
	if key, ok := a.watched[k]; ok {
		a.loop.forget(key, k.fd)
		delete(a.watched, k)
	}
}

// stop returns when the listeners are a broker's: nothing is received from then on.
func (a *answerer) stop() {
	if !a.running {
		return
	}
	a.running = false
	for k := range a.watched {
		a.forget(k)
	}
	a.log.Info("the broker answers again", "answered", a.answered)
	a.answered = 0
}

// answerListener answers one call, and reports whether others may follow.
func (a *answerer) answerListener(k *kept) bool {
	var n notify.Notification
	err := notify.FD(k.fd).Receive(&n)
	if err == nil {
		a.answered++
		err = notify.FD(k.fd).SendContinue(n.ID)
	}
	if err != nil && !errors.Is(err, notify.ErrGone) {
		a.log.Error("a call of a container hangs", "name", k.name, "error", err)
		return false
	}
	return true
}

// Places in a packet of LXC's monitor (seccomp_notify_proxy_msg, src/lxc/lxcseccomp.h in LXC; see core/intake/lxc). The
// cookie follows, which a reply does not have.
const (
	monitorResponseAt = 112
	monitorReply      = 136
	monitorPacket     = monitorReply + 4096
	monitorFlagsAt    = monitorResponseAt + 20
)

// answerMonitor answers one packet, and reports whether others may follow. A packet that is not understood gets no
// answer: LXC then answers ENOSYS when the connection ends.
func (a *answerer) answerMonitor(k *kept) bool {
	packet := make([]byte, monitorPacket)
	m, err := receive(k.fd, packet)
	if err == unix.EAGAIN || err == unix.EINTR {
		return true
	}
	linux.CloseAll(m.fds...)
	if err != nil || len(m.data) < monitorReply {
		return false
	}
	a.answered++
	return sendMonitor(k.fd, packet[:monitorReply]) == nil
}

// sendMonitor sends a packet back, whose response says that the call goes on in the kernel.
func sendMonitor(fd int, reply []byte) error {
	clear(reply[monitorResponseAt+8:])
	binary.NativeEndian.PutUint32(reply[monitorFlagsAt:], unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE)
	return unix.Send(fd, reply, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// answerOrphans answers the calls that a dead broker had received: the kernel delivers them to nobody else. What it had
// decided is sent, and else they go on in the kernel.
func (a *answerer) answerOrphans() {
	if a.journal == "" {
		return
	}
	calls, err := journal.Read(a.journal)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.log.Error("calls that the broker had received hang", "error", err)
	}
	for _, call := range calls {
		for _, k := range slices.Clone(a.shelf.kept) {
			a.answerOrphan(k, call)
		}
	}
}

// answerOrphan answers a call if it came over this descriptor.
func (a *answerer) answerOrphan(k *kept, call *journal.Slot) {
	source := strconv.FormatUint(call.Source(), 10)
	switch {
	case k.isListener() && k.number(2) == source:
		sendAnswer(notify.FD(k.fd), call)
	case k.isMonitor() && k.number(1) == source:
		a.answerRelayed(k, call)
	}
}

// answerRelayed answers a call for whose answer an LXC monitor waits.
func (a *answerer) answerRelayed(monitor *kept, call *journal.Slot) {
	peer, err := unix.GetsockoptUcred(monitor.fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return
	}
	l, err := notify.Find(int(peer.Pid), call.ID())
	if err != nil {
		return // nobody waits, or LXC has ended
	}
	defer unix.Close(int(l))
	if call.State() == journal.Decided {
		// The packet may be on its way, and another would be taken for the answer to the next call.
		sendAnswer(l, call)
		a.drop(monitor)
		return
	}
	packet := *call.Bytes()
	sendMonitor(monitor.fd, packet[:])
}

// sendAnswer answers a call of a listener. It fails if nobody waits.
func sendAnswer(l notify.FD, call *journal.Slot) {
	id := call.ID()
	kind, value := call.Answer()
	switch {
	case call.State() == journal.Decided && kind == journal.Value:
		l.SendValue(id, value)
	case call.State() == journal.Decided && kind == journal.Errno:
		l.SendErrno(id, unix.Errno(value))
	default:
		l.SendContinue(id)
	}
}
