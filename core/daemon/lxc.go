package daemon

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/intercede/intercede/core/broker"
	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/core/intake/lxc"
	"github.com/intercede/intercede/core/policy/config"
	"github.com/intercede/intercede/internal/notify"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// monitorPrefix begins the names of the connections of LXC's monitors in the store.
const monitorPrefix = "lxc"

// monitor is a connection of an LXC monitor.
type monitor struct {
	*lxc.Connection
	inbox  *broker.Inbox
	server *Server
}

// serveMonitor is called for each connection of an LXC monitor.
func (s *Server) serveMonitor(ctx context.Context, c *lxc.Connection) {
	m := &monitor{Connection: c, inbox: s.engine.NewInbox(), server: s}
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
	m.inbox.Close()
}

// relay answers the notifications of a connection until it ends.
func (m *monitor) relay(ctx context.Context, x *lxc.Exchange) (err error) {
	if x == nil {
		if x, err = m.Receive(); err != nil {
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
		if x, err = m.Receive(); err != nil {
			return err
		}
	}
}

// join attaches the container of a connection's first notification.
func (m *monitor) join(ctx context.Context, x *lxc.Exchange) (*broker.Relay, error) {
	ctx, cancel := context.WithDeadline(ctx, x.End)
	defer cancel()
	return m.server.engine.Relay(ctx, container.Claim{
		Runtime: config.RuntimeLXC, Name: container.LXCName(int(m.Peer.Pid)), Cookie: x.Cookie, PeerUID: &m.Peer.Uid,
		PeerCgroups: container.ReadPeer(int(m.Peer.Pid)), PID: x.Init,
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
