package lane

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"
)

// Stream carries notifications over gRPC, each over a stream of its own, for plugins that take no lanes.
type Stream struct {
	Plugin wire.PluginClient
	Pool   *Pool // brings descriptors, which gRPC cannot
}

// Handle carries one notification. The stream ends with the context, which tells the plugin that the broker has what it
// needs; see WhileWaiting. An error may be gRPC's own.
func (s Stream) Handle(ctx context.Context, d *Dialogue, caller Caller) (*wire.Response, *Descriptor, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.Plugin.Handle(ctx)
	if err != nil {
		return nil, nil, unsent{err}
	}
	first := d.opening()
	if err := s.bring(d.Notification.Captured, &d.Captured); err != nil {
		return nil, nil, unsent{err}
	}
	if deadline, ok := ctx.Deadline(); ok {
		d.Notification.DeadlineNs = linux.Monotonic(deadline)
	}
	// A copy: the stream may look at a message after it is sent.
	next := protobuf.Clone(first).(*wire.BrokerMessage)
	for {
		if err := stream.Send(next); err != nil {
			// The stream's own error says more than Send's EOF.
			if _, recvErr := stream.Recv(); recvErr != nil {
				err = recvErr
			}
			return nil, nil, err
		}
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, nil, errors.New("the plugin ended the stream without an answer")
		}
		if err != nil {
			return nil, nil, err
		}
		if response := message.GetResponse(); response != nil {
			return s.end(ctx, stream, response)
		}
		if next, err = s.reply(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// end makes sure that the plugin's only answer is this one, and takes its descriptor.
func (s Stream) end(ctx context.Context, stream wire.Plugin_HandleClient, response *wire.Response) (*wire.Response, *Descriptor, error) {
	stream.CloseSend()
	// How the stream ends does not matter, as long as the plugin ends it.
	switch _, err := stream.Recv(); {
	case err == nil:
		return nil, nil, errors.New("the plugin sent something after its response")
	case ctx.Err() != nil, status.Code(err) == codes.DeadlineExceeded:
		return nil, nil, fmt.Errorf("the plugin did not end the stream after its response: %w", err)
	}
	if response.GetAddFd() == nil {
		return response, nil, nil
	}
	added, err := s.Pool.takeSent(response.GetAddFd().GetDescriptors())
	return response, added, err
}

// unsent is an error before the notification was sent.
type unsent struct{ error }

func (u unsent) Unwrap() error { return u.error }

// IsUnsent reports whether an error of Stream.Handle came before the notification was sent.
func IsUnsent(err error) bool {
	var u unsent
	return errors.As(err, &u)
}

// reply answers a plugin's question.
func (s Stream) reply(question *wire.PluginMessage, caller Caller) (*wire.BrokerMessage, error) {
	answer, set, err := reply(question, caller)
	if set == nil {
		return answer, err
	}
	defer set.Close()
	if err := s.bring(answer.GetCaptured(), set); err != nil {
		return nil, err
	}
	return protobuf.Clone(answer).(*wire.BrokerMessage), nil
}

// bring brings the plugin the descriptors of a set, whose message names them.
func (s Stream) bring(message *wire.Captured, set *capture.Set) (err error) {
	if len(set.Descriptors) > 0 {
		message.Descriptors, err = s.Pool.bring(set.Descriptors)
	}
	return err
}
