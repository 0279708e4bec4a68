package lane

import (
	"errors"
	"strings"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

var (
	// ErrDied means that the plugin's process ended while it had the notification.
	ErrDied = errors.New("the plugin died")
	// ErrGone means that the plugin, or the broker, found the caller gone.
	ErrGone = errors.New("the caller is gone")
)

// Caller is the broker's side of the notification that a plugin has: its answers to the plugin's questions.
type Caller interface {
	ReadMemory(question *wire.ReadMemory) *wire.Memory
	Valid() bool
}

// Dialogue is what is said about one notification. Its messages are used again for the next one, so that none needs
// memory of its own: what Handle returns is valid until then.
type Dialogue struct {
	Notification wire.Notification // what the broker says; the session and what goes with a pidfd are put in by Handle

	first    wire.BrokerMessage
	payload  wire.BrokerMessage_Notification
	answer   wire.PluginMessage
	kind     wire.PluginMessage_Response
	response wire.Response
}

// opening is the message with the notification.
func (d *Dialogue) opening() *wire.BrokerMessage {
	d.payload.Notification, d.first.Message = &d.Notification, &d.payload
	return &d.first
}

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

// maxText bounds what a plugin can have logged of one failure, in bytes.
const maxText = 1024

// Bound cuts what a plugin says.
func Bound(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}
