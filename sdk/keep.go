package sdk

import (
	"context"
	"errors"
	"fmt"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/wire"
)

// Keep has the broker keep something about the container, for this plugin: it is in Container.Kept when the container
// is attached the next time, after the death of the plugin's process. It is stored when Keep returns. A plugin that
// makes something which it must know of later keeps it before the caller gets it.
//
// A key has 1 to 255 bytes. All keys and values of a container and a plugin have 64 KiB and 4,096 entries at most. More
// is an error, and changes nothing.
func (r *Request) Keep(ctx context.Context, key string, value []byte) error {
	return r.keep(ctx, &wire.Keep{Key: []byte(key), Value: value})
}

// Forget has the broker forget what it keeps under the key, if it keeps something.
func (r *Request) Forget(ctx context.Context, key string) error {
	return r.keep(ctx, &wire.Keep{Key: []byte(key), Forget: true})
}

func (r *Request) keep(ctx context.Context, question *wire.Keep) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := r.broker.Keep(question); err != nil {
		return fmt.Errorf("keep %q: %w", question.GetKey(), err)
	}
	return nil
}

// Keep asks the broker to keep or to forget something.
func (s *source) Keep(question *wire.Keep) error {
	reply, fds, err := s.ask(&wire.PluginMessage{Message: &wire.PluginMessage_Keep{Keep: question}})
	linux.CloseAll(fds...)
	switch {
	case err != nil:
		return err
	case reply.GetKept() == nil:
		return errors.New("the broker answered with something else")
	case reply.GetKept().GetRefused() != "":
		return errors.New(reply.GetKept().GetRefused())
	}
	return nil
}

// keptFromWire is what the broker has kept about a container, by keys.
func keptFromWire(entries []*wire.Entry) map[string][]byte {
	kept := map[string][]byte{}
	for _, entry := range entries {
		kept[string(entry.GetKey())] = entry.GetValue()
	}
	return kept
}
