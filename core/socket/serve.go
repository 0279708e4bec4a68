package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const acceptPause = 100 * time.Millisecond

// ErrTooMany means that the peer's user has as many connections as it may have.
var ErrTooMany = errors.New("the user has too many connections: wait until some are closed")

// Service is what the connections of a socket are for.
type Service struct {
	// Most is how many connections are served at once. Further ones wait in the socket's backlog, except those that are
	// refused with [ErrTooMany]: see shares.
	Most int

	// Room is what each connection needs beside that; nil: nothing. While there is none, those that have connected
	// wait in the backlog.
	Room Room

	// Withdraw has connecting fail while there is no Room, with ENOENT.
	Withdraw bool

	// Handle serves a connection, which it owns, from a goroutine of its own.
	Handle func(conn *net.UnixConn, peer unix.Ucred)

	// Running counts the calls of Handle. Serve does not wait for them.
	Running *sync.WaitGroup

	// Refused is told of each failing accept, such as EMFILE, which is tried again, and of each connection that Handle
	// does not get. The peer is zero where it is not known. It is called concurrently with Handle.
	Refused func(peer unix.Ucred, err error)
}

// Room bounds what connections need that others need too.
type Room interface {
	TryTake() bool              // reports whether there is room for one more connection, which it takes
	Take(context.Context) error // waits for it
	Give()
}

// Serve accepts connections until ctx is done, and returns nil then. Returns an error wrapping net.ErrClosed when the
// socket is closed before that.
func (s *Socket) Serve(ctx context.Context, service Service) error {
	slots := make(chan struct{}, service.Most)
	shares := newShares(service.Most)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		leave, err := s.awaitRoom(ctx, service)
		if err != nil {
			return nil
		}
		conn, peer, err := s.next(ctx, service.Refused, shares)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			leave()
			return nil
		}
		if err != nil {
			leave()
			return err
		}
		service.Running.Go(func() {
			defer func() { <-slots }()
			defer leave()
			defer shares.leave(peer.Uid)
			service.Handle(conn, peer)
		})
	}
}

// awaitRoom takes the room for the next connection. It fails when ctx is done.
func (s *Socket) awaitRoom(ctx context.Context, service Service) (leave func(), err error) {
	room := service.Room
	if room == nil {
		return func() {}, nil
	}
	if room.TryTake() {
		return room.Give, nil
	}
	if service.Withdraw {
		s.withdraw()
		defer s.restore()
	}
	return room.Give, room.Take(ctx)
}

// next returns the next connection that its user may have, or an error once ctx is done or the socket is closed.
func (s *Socket) next(ctx context.Context, refused func(unix.Ucred, error), shares *shares) (*net.UnixConn, unix.Ucred, error) {
	for {
		conn, err := s.Accept(ctx)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, unix.Ucred{}, context.Cause(ctx)
		case errors.Is(err, net.ErrClosed):
			return nil, unix.Ucred{}, fmt.Errorf("serving %q: %w", s.path, err)
		default:
			refused(unix.Ucred{}, fmt.Errorf("accepting a connection on %q: %w", s.path, err))
			pause(ctx, acceptPause)
			continue
		}
		peer, err := Peer(conn)
		if err == nil && !shares.enter(peer.Uid) {
			err = ErrTooMany
		}
		if err == nil {
			return conn, peer, nil
		}
		conn.Close()
		refused(peer, err)
	}
}

// shares divides connections among users. Root may have all of them. Other users together have three quarters, and one
// of them gets a connection only while more of these are free than it has: one user half of them at most, and the next
// half of what that leaves.
type shares struct {
	mu   sync.Mutex
	free int            // for users other than root
	held map[uint32]int // by each of them that has any
}

func newShares(most int) *shares { return &shares{free: most - most/4, held: map[uint32]int{}} }

// enter counts a connection in, and reports whether the user may have it.
func (s *shares) enter(uid uint32) bool {
	if uid == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[uid] >= s.free {
		return false
	}
	s.free--
	s.held[uid]++
	return true
}

// leave counts out a connection that enter has counted in.
func (s *shares) leave(uid uint32) {
	if uid == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	if s.held[uid]--; s.held[uid] == 0 {
		delete(s.held, uid)
	}
}

// pause waits for d or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
