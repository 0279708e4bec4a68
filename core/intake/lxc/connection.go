package lxc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// maxDescriptors is the room for the descriptors of a packet: one more than there should be.
const maxDescriptors = 4

var (
	// ErrDescriptors is wrapped by every error about the descriptors that came with a packet.
	ErrDescriptors = errors.New("not the descriptors that LXC sends")

	// ErrOldLXC means that the monitor keeps the listener to itself, so that nobody could know whether a caller still
	// waits when its memory is read or something is done for it. Its containers' calls get ENOSYS.
	ErrOldLXC = errors.New("this LXC, older than 4.0.5 or so, does not hand on its listener: update it; the container's calls get ENOSYS")
)

// Connection is one monitor's. Receive and what it returns are for one goroutine.
type Connection struct {
	Peer unix.Ucred // the monitor
	// Inbox gives the memory into which the next packet is received, but for its cookie, just before that is done; nil:
	// it is the connection's own.
	Inbox func() *[ReplySize]byte

	refused func(peer unix.Ucred, err error)
	init    int // of its container; 0: no packet came yet
	old     bool
	last    *Exchange
	data    [maxPacket]byte
	socket  *linux.Socket // blocking
}

// newConnection takes conn over.
func newConnection(conn *net.UnixConn, peer unix.Ucred, refused func(unix.Ucred, error)) (*Connection, error) {
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Connection{Peer: peer, refused: refused}
	var failure error
	err = raw.Control(func(fd uintptr) { failure = c.adopt(int(fd)) })
	if err := errors.Join(err, failure); err != nil {
		return nil, err
	}
	return c, nil
}

// adopt duplicates the socket, and has the duplicate block. With an error there is none.
func (c *Connection) adopt(fd int) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	if err := unix.SetNonblock(own, false); err != nil {
		unix.Close(own)
		return os.NewSyscallError("fcntl O_NONBLOCK", err)
	}
	c.socket = linux.NewSocket(own, maxDescriptors)
	return nil
}

// checkPeer makes sure that the peer's pids are what they are here.
func checkPeer(peer unix.Ucred) error {
	theirs, err1 := target.StatNamespace("/proc/" + strconv.Itoa(int(peer.Pid)) + "/ns/pid")
	ours, err2 := target.StatNamespace("/proc/self/ns/pid")
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("the monitor's pid namespace: %w", err)
	}
	if theirs != ours {
		return errors.New("the monitor is in another pid namespace than intercede: its process ids mean nothing here")
	}
	return nil
}

// Stop has Receive return io.EOF once what has arrived is received. It may be called at any time.
func (c *Connection) Stop() { c.socket.Shutdown(unix.SHUT_RD) }

func (c *Connection) close() {
	c.endLast()
	c.socket.Close()
}

// endLast gives back what the last exchange held.
func (c *Connection) endLast() {
	if c.last != nil {
		c.last.close()
		c.last = nil
	}
}

// errNobody means that the caller of a notification was gone when it came. LXC has gone on.
var errNobody = errors.New("the caller is gone")

// Receive ends the exchange before and waits for the next notification. LXC is told to go on if it was not answered.
// The error is io.EOF when the monitor is gone, wraps notify.ErrGone when LXC may not have waited for an answer any
// more, and else [ErrPacket] or [ErrDescriptors]; the connection is of no use after it.
func (c *Connection) Receive() (*Exchange, error) {
	if c.last != nil {
		if err := c.last.release(); err != nil {
			return nil, fmt.Errorf("a notification was not answered: %w", err)
		}
		c.endLast()
	}
	for {
		x, err := c.receive()
		switch {
		case errors.Is(err, ErrOldLXC):
			if !c.old {
				c.old = true
				c.refused(c.Peer, err)
			}
		case !errors.Is(err, errNobody):
			return x, err
		}
	}
}

// receive is one packet's. Without a listener among its descriptors the call is answered, and the error is ErrOldLXC.
func (c *Connection) receive() (*Exchange, error) {
	data, fds, err := c.recvmsg()
	if err != nil {
		return nil, err
	}
	received := time.Now()
	p, err := parsePacket(data)
	if err == nil {
		err = c.check(p)
	}
	if err != nil {
		linux.CloseAll(fds...)
		return nil, err
	}
	if len(fds) == 2 {
		linux.CloseAll(fds...)
		return nil, c.pass(data, p, ErrOldLXC)
	}
	listener, err := takeListener(fds)
	if err != nil {
		return nil, err
	}
	c.last, err = newExchange(c, p, data, listener, received)
	if errors.Is(err, notify.ErrGone) {
		err = c.pass(data, p, errNobody)
	}
	return c.last, err
}

// pass has LXC answer ENOSYS if anybody waits, and go on. It returns the reason, or why it failed.
func (c *Connection) pass(data []byte, p packet, reason error) error {
	if err := c.send(encodeReply(data, response{ID: p.notification.ID, Errno: -int32(unix.ENOSYS)})); err != nil {
		return err
	}
	return reason
}

// Resume makes the exchange of a packet again that another process has received over this connection, and has not
// answered; listener is one that came with it, and belongs to the exchange.
func (c *Connection) Resume(data *[ReplySize]byte, listener notify.FD, received time.Time) (*Exchange, error) {
	copy(c.data[:], data[:])
	withoutCookie := *data
	clear(withoutCookie[cookieLengthAt:headerSize])
	p, err := parsePacket(withoutCookie[:])
	if err == nil {
		err = c.check(p)
	}
	if err != nil {
		unix.Close(int(listener))
		return nil, err
	}
	c.last, err = newExchange(c, p, c.data[:ReplySize], listener, received)
	return c.last, err
}

// FD is the connection's socket.
func (c *Connection) FD() int { return c.socket.FD() }

// check compares the packet with what is known of its sender.
func (c *Connection) check(p packet) error {
	if p.monitor != int(c.Peer.Pid) {
		return fmt.Errorf("%w: it says that the monitor is process %d, and its sender is %d", ErrPacket, p.monitor, c.Peer.Pid)
	}
	if c.init != 0 && p.init != c.init {
		return fmt.Errorf("%w: the connection is of the container of process %d, and this is of %d", ErrPacket, c.init, p.init)
	}
	c.init = p.init
	return nil
}

// takeListener takes the third descriptor, and closes the others.
func takeListener(fds []int) (notify.FD, error) {
	if len(fds) != 3 {
		linux.CloseAll(fds...)
		return -1, fmt.Errorf("%w: %d came: want 3", ErrDescriptors, len(fds))
	}
	linux.CloseAll(fds[:2]...) // /proc/PID and its mem: which thread it is is known better from a pidfd
	listener := notify.FD(fds[2])
	if err := listener.RequireListener(); err != nil {
		linux.CloseAll(fds[2:]...)
		return -1, fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	return listener, nil
}

// recvmsg waits for a packet, whose bytes are good until the next. With an error there are no descriptors.
func (c *Connection) recvmsg() ([]byte, []int, error) {
	first := (*[ReplySize]byte)(c.data[:])
	if c.Inbox != nil {
		first = c.Inbox()
	}
	n, fds, err := c.socket.ReceiveParts(first[:], c.data[ReplySize:])
	copy(c.data[:], first[:])
	switch {
	case errors.Is(err, linux.ErrDescriptors):
		err = fmt.Errorf("%w: %w", ErrDescriptors, err)
	case errors.Is(err, linux.ErrTruncated):
		err = fmt.Errorf("%w: %w", ErrPacket, err)
	}
	return c.data[:n], fds, err
}

// send sends a packet to a peer that must be waiting for it.
func (c *Connection) send(data []byte) error {
	err := unix.Send(c.socket.FD(), data, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return os.NewSyscallError("send", err)
}
