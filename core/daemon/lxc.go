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

// serveMonitor is called for each connection of an LXC monitor.
func (s *Server) serveMonitor(ctx context.Context, c *lxc.Connection) {
	if err := s.relay(ctx, c); err != nil {
		s.monitorRefused(c.Peer, err)
	}
}

// relay answers the notifications of a connection until it ends.
func (s *Server) relay(ctx context.Context, c *lxc.Connection) error {
	x, err := c.Receive()
	if err != nil {
		return err
	}
	relay, err := s.join(ctx, c, x)
	if err != nil {
		return err
	}
	defer relay.Close()
	defer context.AfterFunc(relay.Context(), c.Stop)()
	for {
		n := broker.RelayedNotification{Notification: &x.Notification, Answers: x, End: x.End}
		if err := relay.Handle(n); err != nil {
			return err
		}
		if x, err = c.Receive(); err != nil {
			return err
		}
	}
}

// join attaches the container of a connection's first notification.
func (s *Server) join(ctx context.Context, c *lxc.Connection, x *lxc.Exchange) (*broker.Relay, error) {
	ctx, cancel := context.WithDeadline(ctx, x.End)
	defer cancel()
	return s.engine.Relay(ctx, container.Claim{
		Runtime: config.RuntimeLXC, Name: container.LXCName(int(c.Peer.Pid)), Cookie: x.Cookie, PeerUID: &c.Peer.Uid, PID: x.Init,
	})
}

// monitorRefused logs why a monitor is not served any more. That a container ends, or a call is interrupted, is normal.
func (s *Server) monitorRefused(peer unix.Ucred, err error) {
	level := zerolog.WarnLevel
	if errors.Is(err, io.EOF) || errors.Is(err, notify.ErrGone) || errors.Is(err, os.ErrProcessDone) || errors.Is(err, broker.ErrOver) {
		level = zerolog.DebugLevel
	}
	s.peerEvent(level, peer).Err(err).Msg("connection of an LXC monitor closed")
}
