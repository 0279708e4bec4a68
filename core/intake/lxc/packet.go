package lxc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/intercede/intercede/internal/notify"
)

// A packet is a header, struct seccomp_notif and struct seccomp_notif_resp in host byte order, and the cookie
// (seccomp_notify_proxy_msg, src/lxc/lxcseccomp.h in LXC).
const (
	headerSize       = 32
	cookieLengthAt   = 24
	notificationSize = 80
	responseSize     = 24
	dataSize         = 64 // struct seccomp_data, a part of seccomp_notif

	responseAt = headerSize + notificationSize
	// ReplySize is what a reply has, in bytes: all of a packet but the cookie.
	ReplySize = responseAt + responseSize

	// maxCookie bounds lxc.seccomp.notify.cookie, in bytes.
	maxCookie = 4096
	maxPacket = ReplySize + maxCookie
)

// ErrPacket is wrapped by every error about a packet that is not as LXC sends it.
var ErrPacket = errors.New("not a notification of LXC")

// header is struct seccomp_notify_proxy_msg.
type header struct {
	Reserved         uint64
	Monitor          int32
	Init             int32
	NotificationSize uint16
	ResponseSize     uint16
	DataSize         uint16
	_                uint16
	CookieLength     uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	ID    uint64
	Value int64
	Errno int32 // negative
	Flags uint32
}

// packet is what LXC's monitor says of one notification.
type packet struct {
	monitor, init int // pids
	notification  notify.Notification
	cookie        string
}

// parsePacket reads the bytes of one packet; the error wraps [ErrPacket].
func parsePacket(data []byte) (packet, error) {
	if len(data) < ReplySize || len(data) > maxPacket {
		return packet{}, fmt.Errorf("%w: %d bytes: want %d, and %d for the cookie at most", ErrPacket, len(data), ReplySize, maxCookie)
	}
	var h header
	var n notify.Notification
	var r response
	decode(data[:headerSize], &h)
	decode(data[headerSize:responseAt], &n)
	decode(data[responseAt:ReplySize], &r)
	cookie := data[ReplySize:]
	switch sizes := [3]uint16{h.NotificationSize, h.ResponseSize, h.DataSize}; {
	case h.Reserved != 0:
		return packet{}, fmt.Errorf("%w: the reserved field is %#x", ErrPacket, h.Reserved)
	case sizes != [3]uint16{notificationSize, responseSize, dataSize}:
		return packet{}, fmt.Errorf("%w: the kernel's structures have %v bytes: want %d, %d and %d",
			ErrPacket, sizes, notificationSize, responseSize, dataSize)
	case h.CookieLength != uint64(len(cookie)):
		return packet{}, fmt.Errorf("%w: a cookie of %d bytes is announced, and %d came", ErrPacket, h.CookieLength, len(cookie))
	case bytes.IndexByte(cookie, 0) >= 0:
		return packet{}, fmt.Errorf("%w: there is a NUL in the cookie", ErrPacket)
	case h.Monitor <= 0 || h.Init <= 0 || int32(n.TID) <= 0:
		return packet{}, fmt.Errorf("%w: pids %d of the monitor, %d of the container, %d of the caller", ErrPacket, h.Monitor, h.Init, int32(n.TID))
	case n.ID != r.ID:
		return packet{}, fmt.Errorf("%w: notification %d, and a response to %d", ErrPacket, n.ID, r.ID)
	}
	return packet{int(h.Monitor), int(h.Init), n, string(cookie)}, nil
}

// encodeReply makes the reply to a packet: the same without the cookie, with the response filled in.
func encodeReply(data []byte, r response) []byte {
	reply := bytes.Clone(data[:ReplySize])
	if _, err := binary.Encode(reply[responseAt:], binary.NativeEndian, &r); err != nil {
		panic(err) // the sizes are constant
	}
	return reply
}

func decode(data []byte, into any) {
	if _, err := binary.Decode(data, binary.NativeEndian, into); err != nil {
		panic(err) // the sizes are constant
	}
}
