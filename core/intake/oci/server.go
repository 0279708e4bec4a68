// Package oci receives seccomp listeners from OCI runtimes.
//
// A runtime whose config.json names a linux.seccomp.listenerPath connects to that Unix stream socket and sends one
// ContainerProcessState as JSON, with the listener in SCM_RIGHTS, as the OCI runtime specification says in
// "config-linux.md, The Container Process State". The message has no framing and the runtime may keep the connection
// open for the container's whole life, so the end of the JSON object is the end of the message.
//
// The state is as trustworthy as the peer, which is why the socket has mode 0600 and every [Arrival] names its peer.
package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/intercede/intercede/core/socket"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// limits are how long a server waits for its peers, and for how many of them at once.
type limits struct {
	// silence bounds the wait for the first byte of root's connections. crun connects before it runs the container's
	// hooks and, with noNewPrivileges, sends only at `crun start`, so a silent connection is an ordinary one.
	silence time.Duration
	// userSilence is the same for other users, who share what connections there are.
	userSilence time.Duration
	// message bounds the time from a message's first byte to its last.
	message time.Duration
	// connections are served at once, the handling of their arrivals included. Further ones wait in the socket's
	// backlog.
	connections int
}

func usualLimits() limits {
	return limits{silence: 10 * time.Minute, userSilence: 10 * time.Second, message: 10 * time.Second, connections: usualConnections()}
}

// usualConnections leaves most descriptors to what is attached.
func usualConnections() int {
	const least, most = 16, 512
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return most
	}
	return int(min(max(limit.Cur/32, least), most))
}

// silenceOf is how long the peer may be silent.
func (l limits) silenceOf(peer unix.Ucred) time.Duration {
	if peer.Uid == 0 {
		return l.silence
	}
	return l.userSilence
}

// ErrNothingSent is reported for a connection that ended before its first byte: a runtime that connected early and then
// failed to create its container, or a probe. No container depends on it.
var ErrNothingSent = errors.New("the peer closed the connection without sending anything")

// Arrival is one listener as a runtime delivered it.
type Arrival struct {
	// Listener is the seccomp notify descriptor, close-on-exec. The receiver owns it.
	Listener *os.File

	// State is what the runtime said. State.State.ID is 1 to 1024 bytes of printable text, which may include slashes.
	// Pids are 0 or more, where 0 means that the runtime did not say (crun 1.8.1 for exec). All else is unchecked text
	// from a message of at most [MaxMessage] bytes.
	State specs.ContainerProcessState

	// Peer is the connecting process, from SO_PEERCRED: the runtime, not the container.
	Peer unix.Ucred
}

// Server owns a runtime socket. Make one with [Listen].
type Server struct {
	socket  *socket.Socket
	refused func(peer unix.Ucred, err error)
	limits  limits
}

// Listen binds the runtime socket at path; see [socket.Listen] for who owns it and for the errors. refused is told of
// every connection that brought no arrival, and why: [socket.ErrTooMany], [ErrNothingSent], [ErrMessage],
// [ErrDescriptors], os.ErrDeadlineExceeded, the cause of Serve's context, or a system call's error. The peer is zero
// where none is known, as when accepting fails. It is called concurrently.
func Listen(path string, kept *socket.Kept, refused func(peer unix.Ucred, err error)) (*Server, error) {
	s, err := socket.Listen(path, kept)
	if err != nil {
		return nil, fmt.Errorf("the socket for OCI runtimes: %w", err)
	}
	return &Server{socket: s, refused: refused, limits: usualLimits()}, nil
}

// Serve accepts connections until ctx is done, and calls handle with every arrival, concurrently, each from its
// connection's goroutine after the connection is closed. handle owns the listener, and may still be called until Serve
// returns.
//
// When ctx is done, connections that have not delivered are cut; Serve returns nil once all their goroutines have
// ended. The socket stays bound until Close. A failing accept, such as EMFILE, is reported to refused and tried again.
// Returns an error wrapping net.ErrClosed when the server is closed before ctx is done. Serve may be called again after
// it has returned, not concurrently.
//
// Each connection needs room. While there is none, runtimes cannot connect, which they report as their failure.
func (s *Server) Serve(ctx context.Context, room socket.Room, handle func(Arrival)) error {
	serving, cancel := context.WithCancel(ctx)
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	return s.socket.Serve(ctx, socket.Service{
		Most: s.limits.connections, Room: room, Withdraw: true, Running: &connections, Refused: s.refused,
		Handle: func(conn *net.UnixConn, peer unix.Ucred) { s.serveConnection(serving, conn, peer, handle) },
	})
}

// Close removes the socket and its lock file, each only where it is still the one that Listen made, and stops
// listening. Arrivals already handed out are unaffected. A second call does nothing.
func (s *Server) Close() error {
	return s.socket.Close()
}

func (s *Server) serveConnection(ctx context.Context, conn *net.UnixConn, peer unix.Ucred, handle func(Arrival)) {
	arrival, err := receiveArrival(ctx, conn, peer, s.limits)
	if err != nil {
		s.refused(peer, err)
		return
	}
	handle(arrival)
}
