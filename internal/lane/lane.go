// Package lane is one end of a lane, which carries one notification at a time between broker and plugin: messages with
// descriptors over a pair of SOCK_SEQPACKET sockets (unix(7)), sent and received by blocking system calls. See
// LaneControl in plugin.proto for the format.
package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// maxPacket bounds a packet, in bytes: much larger ones would need large pieces of the kernel's memory.
	maxPacket = 16 << 10
	// headerSize is that of a message's length before it.
	headerSize = 4
	// maxRights is room for more descriptors than a message has, so that all that a peer sends can be closed.
	maxRights = 8
)

// ErrBroken means that the peer does not keep to the format. The lane is of no more use.
var ErrBroken = errors.New("the lane is broken")

// End is one end. It belongs to one goroutine at a time, Shutdown excepted.
type End struct {
	mu     sync.Mutex // between Shutdown and Close
	fd     int
	closed bool

	message unix.Msghdr
	iov     unix.Iovec
	control []byte
	packet  []byte
	out     []byte

	in    []byte // of a message that has begun to come
	total int    // its size; 0: none has
	fdIn  int    // the descriptor that came with it, or -1
}

// New makes an end of a socket, which it takes over.
func New(fd int) *End {
	e := &End{fd: fd, packet: make([]byte, maxPacket), control: make([]byte, unix.CmsgSpace(4*maxRights)), fdIn: -1}
	e.message.Iov = &e.iov
	e.message.SetIovlen(1)
	return e
}

// Pair makes both ends' sockets, close-on-exec.
func Pair() (ours, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	return fds[0], fds[1], nil
}

// SetTimeouts bounds how long Receive and Send wait; 0: for ever.
func (e *End) SetTimeouts(receive, send time.Duration) error {
	in, out := unix.NsecToTimeval(receive.Nanoseconds()), unix.NsecToTimeval(send.Nanoseconds())
	return errors.Join(
		unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &in),
		unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &out),
	)
}

// Shutdown ends the lane: both ends' Receive returns io.EOF, also one that waits.
func (e *End) Shutdown() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		unix.Shutdown(e.fd, unix.SHUT_RDWR)
	}
}

// Close closes the socket. A second call does nothing.
func (e *End) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	if e.fdIn >= 0 {
		unix.Close(e.fdIn)
	}
	unix.Close(e.fd)
}

// Message is a protobuf message with the code that protoc-gen-go-vtproto generates: a notification costs a few
// microseconds, of which reflection would be several.
type Message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

// Send sends a message, with the descriptor fd unless that is negative. After an error the lane is of no more use.
func (e *End) Send(m Message, fd int) error {
	size := m.SizeVT()
	e.out = slices.Grow(e.out[:0], headerSize+size)
	out := e.out[:headerSize+size]
	binary.LittleEndian.PutUint32(out, uint32(size))
	if _, err := m.MarshalToSizedBufferVT(out[headerSize:]); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	for first := true; first || len(out) > 0; first = false {
		packet := out[:min(len(out), maxPacket)]
		out = out[len(packet):]
		if err := e.sendPacket(packet, fd); err != nil {
			return err
		}
		fd = -1
	}
	return nil
}

func (e *End) sendPacket(packet []byte, fd int) error {
	e.setData(packet)
	e.message.Control = nil
	e.message.SetControllen(0)
	if fd >= 0 {
		e.putRights(fd)
	}
	waited := false
	// A packet that there is room for is sent without telling the Go runtime, which would prepare for a long wait.
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(e.fd), uintptr(unsafe.Pointer(&e.message)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	for {
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.EPIPE, unix.ECONNRESET:
			return io.EOF
		case unix.EAGAIN:
			if waited {
				return fmt.Errorf("%w: the peer does not receive", ErrBroken)
			}
			waited = true
		default:
			return fmt.Errorf("sendmsg: %w", errno)
		}
		_, _, errno = unix.Syscall(unix.SYS_SENDMSG, uintptr(e.fd), uintptr(unsafe.Pointer(&e.message)), unix.MSG_NOSIGNAL)
	}
}

func (e *End) setData(data []byte) {
	e.iov.Base = unsafe.SliceData(data)
	e.iov.SetLen(len(data))
}

// putRights adds one descriptor to the message (cmsg(3), SCM_RIGHTS).
func (e *End) putRights(fd int) {
	header := (*unix.Cmsghdr)(unsafe.Pointer(&e.control[0]))
	header.Level, header.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	header.SetLen(unix.CmsgLen(4))
	*(*int32)(unsafe.Pointer(&e.control[unix.CmsgLen(0)])) = int32(fd)
	e.message.Control = &e.control[0]
	e.message.SetControllen(unix.CmsgSpace(4))
}

// Receive receives a message, into an empty one, and the descriptor that came with it, close-on-exec, or -1. The error is
// io.EOF when the peer has closed, os.ErrDeadlineExceeded after the timeout: then Receive may be called again, and misses
// nothing.
func (e *End) Receive(m Message) (fd int, err error) {
	for e.total == 0 || len(e.in) < e.total {
		if err := e.receivePacket(); err != nil {
			return -1, err
		}
	}
	fd = e.fdIn
	message := e.in[headerSize:]
	e.total, e.fdIn, e.in = 0, -1, e.in[:0]
	if err := m.UnmarshalVT(message); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return -1, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return fd, nil
}

// receivePacket takes one packet of a message.
func (e *End) receivePacket() error {
	n, fd, err := e.receiveRaw()
	if err != nil {
		return err
	}
	packet := e.packet[:n]
	if e.total > 0 {
		if fd >= 0 {
			unix.Close(fd)
			return fmt.Errorf("%w: a descriptor in the middle of a message", ErrBroken)
		}
	} else {
		if e.fdIn = fd; n < headerSize {
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

// receiveRaw gives the length of the packet and its descriptor, or -1.
func (e *End) receiveRaw() (n, fd int, err error) {
	e.setData(e.packet)
	e.message.Control = &e.control[0]
	for {
		e.message.SetControllen(len(e.control))
		r, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(e.fd), uintptr(unsafe.Pointer(&e.message)), unix.MSG_CMSG_CLOEXEC)
		switch errno {
		case 0:
			fd, err := e.takeRights()
			if err == nil && r == 0 {
				err = io.EOF
			}
			if err != nil && fd >= 0 {
				unix.Close(fd)
			}
			return int(r), fd, err
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, -1, os.ErrDeadlineExceeded
		case unix.ECONNRESET:
			return 0, -1, io.EOF
		default:
			return 0, -1, fmt.Errorf("recvmsg: %w", errno)
		}
	}
}

// rights are the descriptors that came with a packet: the kernel puts them all into one control message (scm_detach_fds,
// net/core/scm.c), and others only where they were asked for.
func (e *End) rights() []int32 {
	header := (*unix.Cmsghdr)(unsafe.Pointer(&e.control[0]))
	size := min(int(header.Len), int(e.message.Controllen)) - unix.CmsgLen(0)
	if size < 0 || header.Level != unix.SOL_SOCKET || header.Type != unix.SCM_RIGHTS {
		return nil
	}
	return unsafe.Slice((*int32)(unsafe.Pointer(&e.control[unix.CmsgLen(0)])), size/4)
}

// takeRights gives the one descriptor that a packet may have. Of a packet that has more, all are closed.
func (e *End) takeRights() (int, error) {
	torn := e.message.Flags&(unix.MSG_CTRUNC|unix.MSG_TRUNC) != 0
	if e.message.Controllen == 0 && !torn {
		return -1, nil
	}
	fds := e.rights()
	if len(fds) == 1 && !torn {
		return int(fds[0]), nil
	}
	for _, fd := range fds {
		unix.Close(int(fd))
	}
	return -1, fmt.Errorf("%w: %d descriptors, or a packet too large", ErrBroken, len(fds))
}
