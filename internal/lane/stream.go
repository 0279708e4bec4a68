package lane

import (
	"context"
	"fmt"

	"github.com/intercede/intercede/internal/wire"
	protobuf "google.golang.org/protobuf/proto"
)

// OverStream carries one notification over a gRPC stream of its own, for plugins that take no lanes. The stream ends
// with the context, which tells the plugin that the broker has what it needs; see WhileWaiting. take copies the
// plugin's descriptor of this number for an ADDFD response, while the plugin keeps it open. An error may be gRPC's own.
func OverStream(ctx context.Context, plugin wire.PluginClient, n *wire.Notification, caller Caller, take func(fd int) (*Descriptor, error)) (*wire.Response, *Descriptor, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := plugin.Handle(ctx)
	if err != nil {
		return nil, nil, err
	}
	// A copy: the stream may look at a message after it is sent.
	next := &wire.BrokerMessage{Message: &wire.BrokerMessage_Notification{Notification: protobuf.Clone(n).(*wire.Notification)}}
	for {
		if err := stream.Send(next); err != nil {
			// The stream's own error says more than Send's EOF.
			if _, recvErr := stream.Recv(); recvErr != nil {
				err = recvErr
			}
			return nil, nil, err
		}
		message, err := stream.Recv()
		if err != nil {
			return nil, nil, err
		}
		if response := message.GetResponse(); response != nil {
			if response.GetAddFd() == nil {
				return response, nil, nil
			}
			added, err := take(int(response.GetAddFd().GetFd()))
			return response, added, err
		}
		if next, err = reply(message, caller); err != nil {
			return nil, nil, err
		}
	}
}

// reply answers a plugin's question.
func reply(question *wire.PluginMessage, caller Caller) (*wire.BrokerMessage, error) {
	switch q := question.GetMessage().(type) {
	case *wire.PluginMessage_ReadMemory:
		memory := &wire.BrokerMessage_Memory{Memory: caller.ReadMemory(q.ReadMemory)}
		return &wire.BrokerMessage{Message: memory}, nil
	case *wire.PluginMessage_CheckValid:
		validity := &wire.Validity{Valid: caller.Valid()}
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: validity}}, nil
	default:
		return nil, fmt.Errorf("the plugin sent an unknown message")
	}
}
