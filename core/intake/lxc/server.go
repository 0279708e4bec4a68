// Package lxc receives notifications from LXC's monitors.
//
// A container with lxc.seccomp.notify.proxy = unix:PATH has a monitor that connects to that SOCK_SEQPACKET socket and
// keeps the listener to itself: it sends each notification as a packet, with descriptors of the caller's /proc folder,
// its memory and the listener, and waits for a packet with the response before it sends the next
// (seccomp_notify_handler, src/lxc/seccomp.c in LXC).
//
// After 30 seconds LXC answers ENOSYS by itself, and takes what comes later for the answer to the next notification. So
// an answer is sent only while the notification is valid and [Exchange.End] is near; else the connection is closed, and
// LXC connects again.
package lxc

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/intercede/intercede/core/socket"
	"golang.org/x/sys/unix"
)

// Server owns a socket for LXC's monitors. Make one with [Listen].
type Server struct {
	socket  *socket.Socket
	refused func(peer unix.Ucred, err error)

	mu          sync.Mutex
	connections map[*Connection]struct{}
	serving     sync.WaitGroup
}

// Listen binds the socket at path; see [socket.Listen] for who owns it and for the errors. refused is told of every
// connection that was not used, or no longer, and why: [socket.ErrTooMany], [ErrPacket], [ErrDescriptors], [ErrOldLXC],
// a system call's error. It is called concurrently.
func Listen(path string, kept *socket.Kept, refused func(peer unix.Ucred, err error)) (*Server, error) {
	s, err := socket.ListenPackets(path, kept)
	if err != nil {
		return nil, fmt.Errorf("the socket for LXC: %w", err)
	}
	return &Server{socket: s, refused: refused, connections: map[*Connection]struct{}{}}, nil
}

// Serve accepts connections until ctx is done, and calls handle with every one, each from a goroutine of its own. The
// connection is closed when handle returns. So many are served at once, each by a thread of its own; further ones
// wait in the socket's backlog, and their containers' calls with them; so do those for which there is no room. When
// ctx is done no further notification is received, while those that are being handled may be answered, which Close
// waits for.
func (s *Server) Serve(ctx context.Context, maxConnections int, room socket.Room, handle func(*Connection)) error {
	defer s.stopAll()
	return s.socket.Serve(ctx, socket.Service{
		Most: maxConnections, Room: room, Running: &s.serving, Refused: s.refused,
		Handle: func(conn *net.UnixConn, peer unix.Ucred) { s.serve(conn, peer, handle) },
	})
}

// Adopt has a connection handled that another process has accepted, as Serve does. It must be called before Serve, and
// takes the descriptor over.
func (s *Server) Adopt(fd *os.File, handle func(*Connection)) {
	s.serving.Go(func() {
		conn, peer, err := adopted(fd)
		if err != nil {
			s.refused(peer, err)
			return
		}
		s.serve(conn, peer, handle)
	})
}

// adopted makes a connection of a descriptor, which it closes.
func adopted(fd *os.File) (*net.UnixConn, unix.Ucred, error) {
	defer fd.Close()
	peer, err := unix.GetsockoptUcred(int(fd.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, unix.Ucred{}, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	conn, err := net.FileConn(fd)
	if err != nil {
		return nil, *peer, err
	}
	return conn.(*net.UnixConn), *peer, nil
}

// closeTimeout bounds the wait for connections whose threads hang in the kernel.
const closeTimeout = 2 * time.Second

// Close waits for the connections' ends, removes the socket and its lock file, and stops listening. Serve must have
// returned.
func (s *Server) Close() error {
	ended := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeTimeout):
	}
	return s.socket.Close()
}

// serve has one connection handled.
func (s *Server) serve(conn *net.UnixConn, peer unix.Ucred, handle func(*Connection)) {
	c, err := newConnection(conn, peer, s.refused)
	if err != nil {
		s.refused(peer, err)
		return
	}
	defer c.close()
	if err := checkPeer(peer); err != nil {
		s.refused(peer, err)
		return
	}
	s.add(c)
	defer s.remove(c)
	handle(c)
}

func (s *Server) add(c *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connections == nil {
		c.Stop()
		return
	}
	s.connections[c] = struct{}{}
}

func (s *Server) remove(c *Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.connections, c)
}

// stopAll stops all connections, and those to come.
func (s *Server) stopAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.connections {
		c.Stop()
	}
	s.connections = nil
}
