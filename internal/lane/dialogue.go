package lane

import (
	"errors"
	"fmt"
	"strings"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

var (
	// ErrDied means that the plugin's process ended while it had the notification.
	ErrDied = errors.New("the plugin died")
	// ErrUnread is an ErrDied: the plugin has not received the notification, and does not receive it any more.
	ErrUnread = fmt.Errorf("%w before it received the call", ErrDied)
	// ErrGone means that the plugin, or the broker, found the caller gone.
	ErrGone = errors.New("the caller is gone")
)

// Caller is the broker's side of the notification that a plugin has: its answers to the plugin's questions.
type Caller interface {
	ReadMemory(question *wire.ReadMemory) *wire.Memory
	// Capture captures what is asked for. The set is closed when it has been sent.
	Capture(question *wire.Capture) *capture.Set
	// Valid reports whether the answer is of use: the caller waits, or may make a call again that a signal has
	// interrupted.
	Valid() bool
	// Keep stores something for the plugin, or says why not.
	Keep(question *wire.Keep) *wire.Kept
}

// Dialogue is what is said about one notification. Its messages are used again for the next one, so that none needs
// memory of its own: what Handle returns is valid until then.
type Dialogue struct {
	Notification wire.Notification // what the broker says; the session is put in by Handle
	Captured     capture.Set       // what goes with the notification; it is the caller's of Handle to close

	captured captured
	first    wire.BrokerMessage
	payload  wire.BrokerMessage_Notification
	answer   wire.PluginMessage
	kind     wire.PluginMessage_Response
	response wire.Response
}

// opening is the message with the notification.
func (d *Dialogue) opening() *wire.BrokerMessage {
	d.payload.Notification, d.first.Message = &d.Notification, &d.payload
	d.Notification.Captured = d.CapturedMessage()
	return &d.first
}

// CapturedMessage is the message of what goes with the notification.
func (d *Dialogue) CapturedMessage() *wire.Captured { return d.captured.of(&d.Captured.Captured) }

// blank is an empty message for what the plugin says next, most often a response, for which there is room.
func (d *Dialogue) blank() *wire.PluginMessage {
	d.response.Reset()
	d.answer.Reset()
	d.kind.Response, d.answer.Message = &d.response, &d.kind
	return &d.answer
}

// Descriptor is a descriptor of the broker's that a plugin has chosen. It is not an os.File: the Go runtime would poll
// a description that has O_NONBLOCK, and whose filesystem may hold up for ever who does that.
type Descriptor struct {
	fd int
}

// NewDescriptor takes the descriptor over.
func NewDescriptor(fd int) *Descriptor { return &Descriptor{fd} }

// FD is its number.
func (d *Descriptor) FD() int { return d.fd }

// Close closes it.
func (d *Descriptor) Close() { unix.Close(d.fd) }

// reply answers a plugin's question. The set, which may be nil, goes with the answer.
func reply(question *wire.PluginMessage, caller Caller) (*wire.BrokerMessage, *capture.Set, error) {
	switch q := question.GetMessage().(type) {
	case *wire.PluginMessage_Capture:
		set := caller.Capture(q.Capture)
		message := new(captured).of(&set.Captured)
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Captured{Captured: message}}, set, nil
	case *wire.PluginMessage_ReadMemory:
		memory := &wire.BrokerMessage_Memory{Memory: caller.ReadMemory(q.ReadMemory)}
		return &wire.BrokerMessage{Message: memory}, nil, nil
	case *wire.PluginMessage_CheckValid:
		validity := &wire.Validity{Valid: caller.Valid()}
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Validity{Validity: validity}}, nil, nil
	case *wire.PluginMessage_Keep:
		return &wire.BrokerMessage{Message: &wire.BrokerMessage_Kept{Kept: caller.Keep(q.Keep)}}, nil, nil
	default:
		return nil, nil, errors.New("the plugin sent an unknown message")
	}
}

// maxText bounds what a plugin can have logged of one failure, in bytes.
const maxText = 1024

// Bound cuts what a plugin says.
func Bound(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
