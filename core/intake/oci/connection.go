package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/intercede/intercede/internal/linux"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// receiveArrival reads one arrival and closes the connection. Errors are those that [Listen] names.
func receiveArrival(ctx context.Context, conn *net.UnixConn, peer unix.Ucred, limits limits) (Arrival, error) {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		conn.Close()
	})
	defer func() {
		if !stop() {
			<-cut // a Close beside it returns before the descriptor is gone
		}
		conn.Close()
	}()

	arrival := Arrival{Peer: peer}
	err := arrival.receive(conn, limits)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("cut while waiting for the runtime's message: %w", context.Cause(ctx))
	}
	return arrival, err
}

func (a *Arrival) receive(conn *net.UnixConn, limits limits) (err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(limits.silenceOf(a.Peer))); err != nil {
		return err
	}
	c := &connection{socket: conn, raw: raw, message: limits.message}
	defer c.descriptors.close()
	if a.State, err = c.readMessage(); err != nil {
		return err
	}
	a.Listener, err = c.descriptors.takeListener(a.State.Fds)
	return err
}

// connection is one message being received: as an io.Reader its bytes, and beside them its descriptors.
type connection struct {
	socket      *net.UnixConn
	raw         syscall.RawConn
	message     time.Duration
	started     bool
	descriptors descriptors
}

// readMessage reads the state and makes sure that nothing else has arrived behind it.
func (c *connection) readMessage() (specs.ContainerProcessState, error) {
	state, rest, err := readState(c)
	if err != nil {
		return state, c.explain(err)
	}
	late, err := c.readArrived()
	if err != nil {
		return state, err
	}
	return state, checkTrailing(append(rest, late...))
}

// explain turns the end of a connection and the end of limits into what happened.
func (c *connection) explain(err error) error {
	switch {
	case errors.Is(err, io.EOF) && !c.started:
		return ErrNothingSent
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the peer closed the connection in the middle of it", ErrMessage)
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.started:
		return fmt.Errorf("the peer connected and sent nothing: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the peer began a message and did not finish it: %w", err)
	}
	return err
}

// Read waits for the next bytes. The first ones start the message's own deadline.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.recvmsg(p, true)
	if err != nil || c.started {
		return n, err
	}
	c.started = true
	return n, c.socket.SetReadDeadline(time.Now().Add(c.message))
}

// readArrived reads what has already arrived, without waiting.
func (c *connection) readArrived() ([]byte, error) {
	buffer := make([]byte, bytes.MinRead)
	n, err := c.recvmsg(buffer, false)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, io.EOF) {
		return nil, nil
	}
	return buffer[:n], err
}

// recvmsg receives once, waiting if asked to, and keeps the descriptors that came along. Returns io.EOF when the peer
// has closed its end, EAGAIN when nothing is there and it was not to wait.
func (c *connection) recvmsg(p []byte, wait bool) (int, error) {
	var n int
	var fds []int
	var failure error
	err := c.raw.Read(func(fd uintptr) bool {
		n, fds, failure = linux.Receive(int(fd), p, maxDescriptors)
		return !wait || !errors.Is(failure, unix.EAGAIN)
	})
	if err == nil {
		err = failure
	}
	if errors.Is(err, linux.ErrDescriptors) {
		err = fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	if err == nil {
		err = c.descriptors.add(fds)
	}
	if err != nil {
		return 0, err // without the bytes, which could be taken for a whole message
	}
	return n, nil
}
