package sdk

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
)

// asker is the way back to the broker, bound to one notification.
type asker interface {
	// ask sends a question and waits for its answer. It fails when the caller is gone, or at the deadline.
	ask(question *wire.PluginMessage) (*wire.BrokerMessage, error)
}

// streamAsker asks on the notification's own stream.
type streamAsker struct {
	stream wire.Plugin_HandleServer
}

func (a streamAsker) ask(question *wire.PluginMessage) (*wire.BrokerMessage, error) {
	if err := a.stream.Send(question); err != nil {
		return nil, fmt.Errorf("asking the broker: %w", err)
	}
	reply, err := a.stream.Recv()
	if err != nil {
		return nil, fmt.Errorf("the broker's answer: %w", err)
	}
	return reply, nil
}

// laneAsker asks on the notification's lane.
type laneAsker struct {
	end *lane.End
	id  uint64 // of the notification
}

func (a laneAsker) ask(question *wire.PluginMessage) (*wire.BrokerMessage, error) {
	question.Id = a.id
	if err := a.end.Send(question, -1); err != nil {
		return nil, fmt.Errorf("asking the broker: %w", err)
	}
	reply := &wire.BrokerMessage{}
	fd, err := a.end.Receive(reply)
	if err != nil {
		return nil, fmt.Errorf("the broker's answer: %w", err)
	}
	closeFD(fd)
	return reply, nil
}

func askMemory(a asker, address uint64, n int, asString bool) ([]byte, syscall.Errno, error) {
	reply, err := a.ask(&wire.PluginMessage{Message: &wire.PluginMessage_ReadMemory{
		ReadMemory: &wire.ReadMemory{Address: address, Length: uint32(n), String_: asString}}})
	if err != nil {
		return nil, 0, err
	}
	memory := reply.GetMemory()
	if memory == nil {
		return nil, 0, errors.New("the broker answered a read with something else")
	}
	return memory.GetData(), syscall.Errno(memory.GetErrno()), nil
}

func askValid(a asker) (bool, error) {
	reply, err := a.ask(&wire.PluginMessage{Message: &wire.PluginMessage_CheckValid{CheckValid: &wire.CheckValid{}}})
	if err != nil {
		return false, err
	}
	if reply.GetValidity() == nil {
		return false, errors.New("the broker answered a validity check with something else")
	}
	return reply.GetValidity().GetValid(), nil
}
