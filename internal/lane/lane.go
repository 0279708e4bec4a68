// Package lane carries notifications from the broker to a plugin: over lanes, and over gRPC for plugins that take none.
// A lane carries one at a time, as messages with descriptors over a pair of SOCK_SEQPACKET sockets (unix(7)), sent and
// received by blocking system calls. See LaneControl in plugin.proto for the format.
package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// maxPacket bounds a packet, in bytes: much larger ones would need large pieces of the kernel's memory.
	maxPacket = 16 << 10
	// headerSize is that of a message's length before it.
	headerSize = 4
	// maxDescriptors bounds those of a message.
	maxDescriptors = 64
)

// errUnread is an io.EOF: the peer has closed, and has not received the last message that was sent to it, or not all of
// it.
var errUnread = fmt.Errorf("the peer has closed without receiving a message: %w", io.EOF)

// ErrBroken means that the peer does not keep to the format. The lane is of no more use.
var ErrBroken = errors.New("the lane is broken")

// End is one end. It belongs to one goroutine at a time, Shutdown excepted.
type End struct {
	socket *linux.Socket
	packet []byte
	out    []byte

	in    []byte // of a message that has begun to come
	total int    // its size; 0: none has
	fdsIn []int  // the descriptors that came with it
}

// New makes an end of a socket, which it takes over.
func New(fd int) *End {
	return &End{socket: linux.NewSocket(fd, maxDescriptors), packet: make([]byte, maxPacket)}
}

// Clone makes another end of the same socket, for the other direction: one sends, and the other receives.
func (e *End) Clone() (*End, error) {
	fd, err := unix.FcntlInt(uintptr(e.socket.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("the socket of the lanes: %w", err)
	}
	return New(fd), nil
}

// Pair makes both ends' sockets, close-on-exec.
func Pair() (ours, theirs int, err error) { return linux.Socketpair(unix.SOCK_SEQPACKET) }

// SetTimeouts bounds how long Receive and Send wait; 0: for ever.
func (e *End) SetTimeouts(receive, send time.Duration) error {
	in, out := unix.NsecToTimeval(receive.Nanoseconds()), unix.NsecToTimeval(send.Nanoseconds())
	return errors.Join(
		unix.SetsockoptTimeval(e.socket.FD(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &in),
		unix.SetsockoptTimeval(e.socket.FD(), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &out),
	)
}

// Shutdown ends the lane: both ends' Receive returns io.EOF, also one that waits.
func (e *End) Shutdown() { e.socket.Shutdown(unix.SHUT_RDWR) }

// Close closes the socket. A second call does nothing.
func (e *End) Close() {
	linux.CloseAll(e.fdsIn...)
	e.fdsIn = nil
	e.socket.Close()
}

// Message is a protobuf message with the code that protoc-gen-go-vtproto generates: a notification costs a few
// microseconds, of which reflection would be several.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

// Send sends a message with descriptors, which stay open here. After an error the lane is of no more use.
func (e *End) Send(m Message, fds ...int) error {
	size := m.SizeVT()
	e.out = slices.Grow(e.out[:0], headerSize+size)
	out := e.out[:headerSize+size]
	binary.LittleEndian.PutUint32(out, uint32(size))
	if _, err := m.MarshalToSizedBufferVT(out[headerSize:]); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	for len(out) > 0 {
		packet := out[:min(len(out), maxPacket)]
		if err := e.socket.Send(packet, fds...); err != nil {
			return sendError(err)
		}
		out, fds = out[len(packet):], nil
	}
	return nil
}

func sendError(err error) error {
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET): // of a message in packets the last is missing
		return errUnread
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: the peer does not receive", ErrBroken)
	}
	return err
}

// Receive receives a message, into an empty one, and the descriptors that came with it, close-on-exec: they are the
// caller's to close, and the slice is good until the next call. The error is io.EOF when the peer has closed,
// os.ErrDeadlineExceeded after the timeout: then Receive may be called again, and misses nothing.
func (e *End) Receive(m Message) (fds []int, err error) {
	for e.total == 0 || len(e.in) < e.total {
		if err := e.receivePacket(); err != nil {
			return nil, err
		}
	}
	fds = e.fdsIn
	message := e.in[headerSize:]
	e.total, e.fdsIn, e.in = 0, e.fdsIn[:0], e.in[:0]
	if err := m.UnmarshalVT(message); err != nil {
		linux.CloseAll(fds...)
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return fds, nil
}

// receivePacket takes one packet of a message.
func (e *End) receivePacket() error {
	n, fds, err := e.socket.Receive(e.packet)
	if err != nil {
		return e.receiveError(err)
	}
	packet := e.packet[:n]
	if e.total > 0 {
		if len(fds) > 0 {
			linux.CloseAll(fds...)
			return fmt.Errorf("%w: a descriptor in the middle of a message", ErrBroken)
		}
	} else {
		e.fdsIn = append(e.fdsIn[:0], fds...)
		if n < headerSize {
			return fmt.Errorf("%w: a message of %d bytes", ErrBroken, n)
		}
		size := binary.LittleEndian.Uint32(packet)
		if size > wire.MaxMessage {
			return fmt.Errorf("%w: a message of %d bytes, the limit is %d", ErrBroken, size, wire.MaxMessage)
		}
		e.total = headerSize + int(size)
	}
	if e.in = append(e.in, packet...); len(e.in) > e.total {
		return fmt.Errorf("%w: more bytes than the message has", ErrBroken)
	}
	return nil
}

func (e *End) receiveError(err error) error {
	switch {
	case e.socket.Unread():
		return errUnread
	case errors.Is(err, linux.ErrDescriptors), errors.Is(err, linux.ErrTruncated):
		return fmt.Errorf("%w: %w", ErrBroken, err)
	case errors.Is(err, unix.EAGAIN):
		return os.ErrDeadlineExceeded
	}
	return err
}
