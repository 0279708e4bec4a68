package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Packet is a message that is made ready for code that can make raw system calls only, such as a forked copy of a Go
// program.
type Packet struct {
	Header unix.Msghdr // for sendmsg(2)
	// Descriptor is where the number of the descriptor that goes with it is written; nil: none goes.
	Descriptor *int32

	vector unix.Iovec
}

// NewPacket makes a packet of data, of one byte at least, which it does not copy: what is written there is sent.
func NewPacket(data []byte, descriptor bool) *Packet {
	p := &Packet{}
	p.vector.Base = &data[0]
	p.vector.SetLen(len(data))
	p.Header.Iov = &p.vector
	p.Header.SetIovlen(1)
	if descriptor {
		rights := unix.UnixRights(-1)
		p.Descriptor = (*int32)(unsafe.Pointer(&rights[unix.CmsgLen(0)]))
		p.Header.Control = &rights[0]
		p.Header.SetControllen(len(rights))
	}
	return p
}

// Send is one sendmsg(2) and nothing else: it gives up where it would have to try again.
//
//go:nosplit
//go:norace
func (p *Packet) Send(socket uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, socket, uintptr(unsafe.Pointer(&p.Header)), unix.MSG_NOSIGNAL)
	return errno
}
