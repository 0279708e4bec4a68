package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// asker is the way back to the broker, bound to one notification.
type asker interface {
	// ask sends a question and waits for its answer, with the descriptors that came with that. It fails when the
	// caller is gone, or at the deadline.
	ask(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error)
}

// streamAsker asks on the notification's own stream.
type streamAsker struct {
	stream  wire.Plugin_HandleServer
	brought *brought
}

func (a streamAsker) ask(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error) {
	if err := a.stream.Send(question); err != nil {
		return nil, nil, fmt.Errorf("asking the broker: %w", err)
	}
	reply, err := a.stream.Recv()
	if err != nil {
		return nil, nil, fmt.Errorf("the broker's answer: %w", err)
	}
	fds, err := a.brought.take(a.stream.Context(), reply.GetCaptured())
	return reply, fds, err
}

// laneAsker asks on the notification's lane.
type laneAsker struct {
	end *lane.End
	id  uint64 // of the notification
}

func (a laneAsker) ask(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error) {
	question.Id = a.id
	if err := a.end.Send(question); err != nil {
		return nil, nil, fmt.Errorf("asking the broker: %w", err)
	}
	reply := &wire.BrokerMessage{}
	fds, err := a.end.Receive(reply)
	if err != nil {
		return nil, nil, fmt.Errorf("the broker's answer: %w", err)
	}
	return reply, slices.Clone(fds), nil // the lane uses the slice again for the next answer
}

// source asks the broker for what a Request and its Target lack, one question at a time.
type source struct {
	mu    sync.Mutex
	asker asker
}

func (s *source) ask(question *wire.PluginMessage) (*wire.BrokerMessage, []int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asker.ask(question)
}

// Capture implements capture.Source.
func (s *source) Capture(wants []*capture.Want, named int) (*capture.Captured, []int, error) {
	question := &wire.Capture{Thread: int32(named)}
	for _, w := range wants {
		question.Wants = append(question.Wants, &wire.Want{Part: wire.Part(w.Part), Number: w.Number, Controllers: w.Controllers})
	}
	reply, fds, err := s.ask(&wire.PluginMessage{Message: &wire.PluginMessage_Capture{Capture: question}})
	captured := reply.GetCaptured()
	switch {
	case err != nil:
	case captured == nil:
		err = errors.New("the broker answered a capture with something else")
	default:
		err = capture.Err(captured.GetErrno())
	}
	if err != nil {
		linux.CloseAll(fds...)
		return nil, nil, err
	}
	return lane.Captured(captured), fds, nil
}

// ReadMemory implements capture.Source.
func (s *source) ReadMemory(address uint64, length int, isString bool) ([]byte, unix.Errno, error) {
	memory, err := s.readMemory(&wire.ReadMemory{Address: address, Length: uint32(length), String_: isString})
	return memory.GetData(), unix.Errno(memory.GetErrno()), err
}

func (s *source) readMemory(question *wire.ReadMemory) (*wire.Memory, error) {
	reply, fds, err := s.ask(&wire.PluginMessage{Message: &wire.PluginMessage_ReadMemory{ReadMemory: question}})
	linux.CloseAll(fds...)
	if err != nil {
		return nil, err
	}
	memory := reply.GetMemory()
	if memory == nil {
		return nil, errors.New("the broker answered a read with something else")
	}
	return memory, nil
}

// Alive implements capture.Source: ErrGone if the caller no longer waits.
func (s *source) Alive() error {
	reply, fds, err := s.ask(&wire.PluginMessage{Message: &wire.PluginMessage_CheckValid{CheckValid: &wire.CheckValid{}}})
	linux.CloseAll(fds...)
	switch {
	case err != nil:
		return err
	case reply.GetValidity() == nil:
		return errors.New("the broker answered a validity check with something else")
	case !reply.GetValidity().GetValid():
		return ErrGone
	}
	return nil
}

// Close implements capture.Source.
func (s *source) Close() {}

// maxBrought bounds the descriptors of streams that ended before they were taken, in messages.
const maxBrought = 64

// brought keeps descriptors that came for streams until these take them.
type brought struct {
	mu       sync.Mutex
	messages []message // in the order of their arrival
	arrival  chan struct{}
}

// message is the descriptors of one message.
type message struct {
	number uint64
	fds    []int
}

// put keeps descriptors. Of too many the oldest are closed.
func (b *brought) put(number uint64, fds []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.messages = append(b.messages, message{number, append([]int(nil), fds...)})
	if len(b.messages) > maxBrought {
		linux.CloseAll(b.messages[0].fds...)
		b.messages = b.messages[1:]
	}
	if b.arrival != nil {
		close(b.arrival)
		b.arrival = nil
	}
}

// take waits for the descriptors of what was captured, if there are such.
func (b *brought) take(ctx context.Context, captured *wire.Captured) ([]int, error) {
	if captured.GetDescriptors() == 0 {
		return nil, nil
	}
	for {
		fds, arrival := b.find(captured.GetDescriptors())
		if fds != nil {
			return fds, nil
		}
		select {
		case <-arrival:
		case <-ctx.Done():
			return nil, fmt.Errorf("the descriptors of a capture: %w", context.Cause(ctx))
		}
	}
}

// find returns the descriptors of this number, or a channel that is closed when others have come.
func (b *brought) find(number uint64) ([]int, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range b.messages {
		if m.number == number {
			b.messages = append(b.messages[:i:i], b.messages[i+1:]...)
			return m.fds, nil
		}
	}
	if b.arrival == nil {
		b.arrival = make(chan struct{})
	}
	return nil, b.arrival
}
