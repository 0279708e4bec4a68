package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/intake/lxc"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Names of descriptors in the store: of connections of LXC's monitors, and of the listeners that came over them.
const (
	monitorPrefix = "lxc"
	relayedPrefix = "relayed"
)

// monitor is a connection of an LXC monitor.
type monitor struct {
	*lxc.Connection
	inbox     *broker.Inbox
	server    *Server
	listeners map[uint64]*os.File // that the store has, by their numbers
	last      uint64              // of the numbers
}

// maxListeners bounds the listeners that the store keeps for a connection: the container's, and those of lxc-attach.
const maxListeners = 64

// serveMonitor is called for each connection of an LXC monitor.
func (s *Server) serveMonitor(ctx context.Context, c *lxc.Connection) {
	m := &monitor{Connection: c, inbox: s.engine.NewInbox(), server: s, listeners: map[uint64]*os.File{}}
	s.engine.KeepDescriptor(broker.NameOf(monitorPrefix, m.inbox.Number), c.FD())
	s.serveConnection(ctx, m, nil)
}

// serveConnection serves a connection whose first notification has been received already; nil: it has not.
func (s *Server) serveConnection(ctx context.Context, m *monitor, first *lxc.Exchange) {
	defer m.close()
	m.Inbox = m.inbox.Expect
	if err := m.relay(ctx, first); err != nil {
		s.monitorRefused(m.Peer, err)
	}
}

// close has the store forget the connection.
func (m *monitor) close() {
	m.server.engine.ForgetDescriptor(broker.NameOf(monitorPrefix, m.inbox.Number))
	for number := range m.listeners {
		m.forget(number)
	}
	m.inbox.Close()
}

// forget closes a listener, and has the store close it.
func (m *monitor) forget(number uint64) {
	m.server.engine.ForgetDescriptor(broker.NameOf(relayedPrefix, m.inbox.Number, number))
	m.listeners[number].Close()
	delete(m.listeners, number)
}

// relay answers the notifications of a connection until it ends.
func (m *monitor) relay(ctx context.Context, x *lxc.Exchange) (err error) {
	if x == nil {
		if x, err = m.receive(); err != nil {
			return err
		}
	}
	relay, err := m.join(ctx, x)
	if err != nil {
		return err
	}
	defer relay.Close()
	defer context.AfterFunc(relay.Context(), m.Stop)()
	for {
		n := broker.RelayedNotification{Notification: &x.Notification, Answers: x, End: x.End}
		if err := relay.Handle(n); err != nil {
			return err
		}
		if x, err = m.receive(); err != nil {
			return err
		}
	}
}

// receive receives the next notification, and has the store keep its listener: the next daemon can ask whether its
// caller waits.
func (m *monitor) receive() (*lxc.Exchange, error) {
	x, err := m.Receive()
	if err == nil {
		err = m.keep(x.Listener())
	}
	return x, err
}

func (m *monitor) keep(l notify.FD) error {
	for _, known := range m.listeners {
		if linux.SameFile(int(known.Fd()), int(l)) {
			return nil
		}
	}
	m.forgetEnded()
	if len(m.listeners) >= maxListeners {
		return fmt.Errorf("%w: of one connection %d listeners have come", lxc.ErrDescriptors, maxListeners)
	}
	own, err := unix.FcntlInt(uintptr(l), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	m.last++
	m.listeners[m.last] = os.NewFile(uintptr(own), "listener of LXC")
	m.server.engine.KeepDescriptor(broker.NameOf(relayedPrefix, m.inbox.Number, m.last), own)
	return nil
}

// forgetEnded forgets the listeners whose last task is gone.
func (m *monitor) forgetEnded() {
	for number, file := range m.listeners {
		if _, ended, err := notify.FD(file.Fd()).Poll(0); ended || err != nil {
			m.forget(number)
		}
	}
}

// join attaches the container of a connection's first notification.
func (m *monitor) join(ctx context.Context, x *lxc.Exchange) (*broker.Relay, error) {
	ctx, cancel := context.WithDeadline(ctx, x.End)
	defer cancel()
	return m.server.engine.Relay(ctx, container.Claim{
		Runtime: config.RuntimeLXC, Name: container.LXCName(int(m.Peer.Pid)), Cookie: x.Cookie, PeerUID: &m.Peer.Uid, PID: x.Init,
	}, m.inbox)
}

// monitorRefused logs why a monitor is not served any more. That a container ends, or a call is interrupted, is normal.
func (s *Server) monitorRefused(peer unix.Ucred, err error) {
	level := zerolog.WarnLevel
	if errors.Is(err, io.EOF) || errors.Is(err, notify.ErrGone) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, broker.ErrOver) {
		level = zerolog.DebugLevel
	}
	s.peerEvent(level, peer).Err(err).Msg("connection of an LXC monitor closed")
}
