package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"intercede.invalid/oldplugin/wire"
)

// serveControl takes lanes, and descriptors that belong to streams.
func (s *server) serveControl() {
	for {
		var message wire.LaneControl
		fds, err := receive(s.control, &message)
		if err != nil {
			return
		}
		switch kind := message.GetControl().(type) {
		case *wire.LaneControl_Open:
			go s.serveLane(fds[0])
		case *wire.LaneControl_Descriptors:
			s.brought.put(kind.Descriptors, fds)
		default:
			closeAll(fds)
		}
	}
}

// sendAdded sends the descriptor of an answer on a stream, and returns its number.
func (s *server) sendAdded(fd int) (uint64, error) {
	defer unix.Close(fd)
	s.sending.Lock()
	defer s.sending.Unlock()
	s.sent++
	return s.sent, send(s.control, &wire.LaneControl{Control: &wire.LaneControl_Descriptors{Descriptors: s.sent}}, fd)
}

// serveLane has the notifications that come over a lane.
func (s *server) serveLane(lane int) {
	defer unix.Close(lane)
	for {
		var message wire.BrokerMessage
		fds, err := receive(lane, &message)
		if err != nil {
			return
		}
		n := message.GetNotification()
		ask := func(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error) {
			question.Id = n.GetId()
			if err := send(lane, question); err != nil {
				return nil, nil, err
			}
			reply := &wire.BrokerMessage{}
			got, err := receive(lane, reply)
			return reply, got, err
		}
		answer := &wire.PluginMessage{Id: n.GetId()}
		response, added, err := s.answer(n, fds, ask)
		answer.Message = &wire.PluginMessage_Response{Response: response}
		if err != nil {
			answer.Message = &wire.PluginMessage_Failure{Failure: &wire.Failure{Text: err.Error()}}
		}
		if added >= 0 {
			err = send(lane, answer, added)
			unix.Close(added)
		} else {
			err = send(lane, answer)
		}
		if err != nil {
			return
		}
	}
}

const (
	header      = 4
	maxPacket   = 16 << 10
	maxMessage  = 8 << 20
	controlRoom = 64 * 4
)

func send(socket int, m proto.Message, fds ...int) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	out := append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for len(out) > 0 {
		n := min(len(out), maxPacket)
		if err := unix.Sendmsg(socket, out[:n], rights, nil, unix.MSG_NOSIGNAL); err != nil {
			return err
		}
		out, rights = out[n:], nil
	}
	return nil
}

func receive(socket int, m proto.Message) ([]int, error) {
	var in []byte
	var fds []int
	for total := header; len(in) < total; {
		packet, control := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(controlRoom))
		n, nc, _, _, err := unix.Recvmsg(socket, packet, control, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return nil, io.EOF
		}
		messages, err := unix.ParseSocketControlMessage(control[:nc])
		if err != nil {
			return nil, err
		}
		for _, message := range messages {
			got, err := unix.ParseUnixRights(&message)
			if err != nil {
				return nil, err
			}
			fds = append(fds, got...)
		}
		if in = append(in, packet[:n]...); total == header && len(in) >= header {
			total += int(binary.LittleEndian.Uint32(in))
		}
		if total > maxMessage {
			return nil, fmt.Errorf("a message of %d bytes", total)
		}
	}
	return fds, proto.Unmarshal(in[header:], m)
}

// brought has the descriptors that have come for streams.
type brought struct {
	mu      sync.Mutex
	changed *sync.Cond
	fds     map[uint64][]int
}

func newBrought() *brought {
	b := &brought{fds: map[uint64][]int{}}
	b.changed = sync.NewCond(&b.mu)
	return b
}

func (b *brought) put(number uint64, fds []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fds[number] = fds
	b.changed.Broadcast()
}

// take waits for the descriptors of this number; 0: there are none.
func (b *brought) take(number uint64) []int {
	if number == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.fds[number] == nil {
		b.changed.Wait()
	}
	fds := b.fds[number]
	delete(b.fds, number)
	return fds
}
