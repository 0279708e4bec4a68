package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	// ErrDescriptors means that descriptors of a message did not arrive.
	ErrDescriptors = errors.New("not all descriptors of a message arrived")

	// ErrTruncated means that a message had more bytes than there was room for.
	ErrTruncated = errors.New("a message is larger than the buffer for it")
)

const descriptorSize = 4 // bytes of an int in a control message

// Socket is a Unix socket that sends and receives messages with descriptors (unix(7), SCM_RIGHTS). It keeps the memory
// that the kernel is told of, so that neither allocates. It belongs to one goroutine at a time, Shutdown excepted.
type Socket struct {
	mu sync.Mutex // between Shutdown and Close
	fd int        // -1: closed

	most    int // descriptors that a message may have
	header  unix.Msghdr
	vectors [2]unix.Iovec
	control []byte
	fds     []int
	unread  bool
}

// NewSocket takes over a descriptor. A message that is received may have up to most descriptors.
func NewSocket(fd, most int) *Socket {
	s := &Socket{fd: fd, most: most, control: make([]byte, unix.CmsgSpace(descriptorSize*most)), fds: make([]int, 0, most)}
	s.header.Iov = &s.vectors[0]
	return s
}

// FD is the descriptor, or -1 after Close.
func (s *Socket) FD() int { return s.fd }

// Shutdown ends receiving (unix.SHUT_RD), sending (SHUT_WR) or both (SHUT_RDWR), also where the owner waits in it
// (shutdown(2)). It may be called at any time.
func (s *Socket) Shutdown(how int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		unix.Shutdown(s.fd, how)
	}
}

// Close closes the descriptor. A second call does nothing.
func (s *Socket) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	CloseAll(s.fd)
	s.fd = -1
}

// Send sends data, which is a message where the socket keeps messages apart, and all of it where it is a stream. The
// descriptors go with the first byte and stay open here. The error wraps the errno of sendmsg(2): EPIPE without a
// signal; EAGAIN if the socket does not block, or has blocked as long as SO_SNDTIMEO says.
func (s *Socket) Send(data []byte, fds ...int) error {
	s.putDescriptors(fds)
	for first := true; first || len(data) > 0; first = false {
		s.setData(data)
		n, err := s.sendOnce()
		if err != nil {
			return err
		}
		data = data[n:]
		s.setControl(0)
	}
	return nil
}

// sendOnce sends what there is room for without telling the Go runtime, which would prepare for a long wait.
func (s *Socket) sendOnce() (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.header)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if errno == unix.EAGAIN {
		errno = unix.EINTR // try again, and wait
	}
	for errno == unix.EINTR {
		n, _, errno = unix.Syscall(unix.SYS_SENDMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.header)), unix.MSG_NOSIGNAL)
	}
	if errno != 0 {
		return 0, os.NewSyscallError("sendmsg", errno)
	}
	return int(n), nil
}

// Receive receives a message into data, which has room for one byte at least, or what has arrived of a stream. The
// descriptors that came along are close-on-exec and the caller's to close; the slice is good until the next call. With
// an error there are none. It is io.EOF at the end of the connection, for which an empty message stands too, or wraps
// ErrDescriptors, ErrTruncated, or the errno of recvmsg(2): EAGAIN if the socket does not block, or has blocked as long
// as SO_RCVTIMEO says.
func (s *Socket) Receive(data []byte) (n int, fds []int, err error) { return s.ReceiveParts(data, nil) }

// ReceiveParts is Receive for a message whose first bytes go to first, which they may fill, and the others to rest.
func (s *Socket) ReceiveParts(first, rest []byte) (n int, fds []int, err error) {
	s.setData(first)
	s.setRest(rest)
	for {
		// Room for the descriptors and no padding, which could hold another.
		s.setControl(unix.CmsgLen(descriptorSize * s.most))
		r, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.header)), unix.MSG_CMSG_CLOEXEC)
		switch errno {
		case 0:
			return s.received(int(r))
		case unix.EINTR:
		case unix.ECONNRESET:
			s.unread = true
			return 0, nil, io.EOF
		default:
			return 0, nil, os.NewSyscallError("recvmsg", errno)
		}
	}
}

// Unread reports whether Receive found the end of the connection, and that the peer closed without receiving all that
// was sent to it: when the last descriptor of the peer was closed, its queue was not empty (unix_release_sock,
// net/unix/af_unix.c). Nobody has received what was in the queue, nor can anybody later.
func (s *Socket) Unread() bool { return s.unread }

// received gives what recvmsg has received, n bytes, or closes the descriptors and says what is wrong.
func (s *Socket) received(n int) (int, []int, error) {
	err := s.takeDescriptors()
	switch {
	case err != nil:
	case s.header.Flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("%w: the peer sent more than %d, or this process has too few left (RLIMIT_NOFILE)", ErrDescriptors, s.most)
	case s.header.Flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("%w: it has more than %d bytes", ErrTruncated, s.vectors[0].Len+s.vectors[1].Len)
	case n == 0:
		err = io.EOF
	}
	if err != nil {
		CloseAll(s.fds...)
		return 0, nil, err
	}
	return n, s.fds, nil
}

func (s *Socket) setData(data []byte) {
	s.vectors[0].Base = unsafe.SliceData(data)
	s.vectors[0].SetLen(len(data))
	s.header.SetIovlen(1)
}

// setRest adds room beyond that of setData.
func (s *Socket) setRest(data []byte) {
	s.vectors[1].Base = unsafe.SliceData(data)
	s.vectors[1].SetLen(len(data))
	if len(data) > 0 {
		s.header.SetIovlen(2)
	}
}

// setControl tells the kernel of the first size bytes of the control data.
func (s *Socket) setControl(size int) {
	s.header.Control = nil
	if s.header.SetControllen(size); size > 0 {
		s.header.Control = unsafe.SliceData(s.control)
	}
}

// putDescriptors writes a control message with descriptors (cmsg(3)).
func (s *Socket) putDescriptors(fds []int) {
	if len(fds) == 0 {
		s.setControl(0)
		return
	}
	size := descriptorSize * len(fds)
	s.control = slices.Grow(s.control[:0], unix.CmsgSpace(size))[:unix.CmsgSpace(size)]
	header := (*unix.Cmsghdr)(unsafe.Pointer(&s.control[0]))
	header.Level, header.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	header.SetLen(unix.CmsgLen(size))
	for i, fd := range fds {
		binary.NativeEndian.PutUint32(s.control[unix.CmsgLen(descriptorSize*i):], uint32(fd))
	}
	s.setControl(len(s.control))
}

// takeDescriptors lists the descriptors that came with a message, also those before an error. Control messages of other
// kinds come where they were asked for.
func (s *Socket) takeDescriptors() error {
	s.fds = s.fds[:0]
	rest := s.control[:s.header.Controllen]
	for len(rest) >= unix.SizeofCmsghdr {
		header, data, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return fmt.Errorf("%w: unreadable control data: %w", ErrDescriptors, err)
		}
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_RIGHTS {
			for ; len(data) >= descriptorSize; data = data[descriptorSize:] {
				s.fds = append(s.fds, int(int32(binary.NativeEndian.Uint32(data))))
			}
		}
		rest = next
	}
	return nil
}

// Send sends a message over a descriptor that stays the caller's, as [Socket.Send] does.
func Send(fd int, data []byte, fds ...int) error { return NewSocket(fd, 0).Send(data, fds...) }

// Receive receives a message with up to most descriptors over a descriptor that stays the caller's, as [Socket.Receive]
// does.
func Receive(fd int, data []byte, most int) (n int, fds []int, err error) {
	return NewSocket(fd, most).Receive(data)
}
