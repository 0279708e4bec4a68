package run

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"syscall"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// A message is a length (uint32, native byte order), then JSON. Descriptors travel with its first byte.
const (
	headerSize     = 4
	messageMax     = 64 << 20
	descriptorsMax = 1 + mountsMax
)

// request is all that the init needs to know. Mounts travel with it: for /dev, and the nodes of Nodes.
type request struct {
	ID       string
	Hostname string
	Args     []string
	Env      []string
	Workdir  string
	User     string
	CapDrop  []string
	Filter   []unix.SockFilter
	// Terminal says which of stdin, stdout and stderr become the container's terminal.
	Terminal [3]bool
	Window   unix.Winsize
	Mounts   []mountSpec // the sources of bind mounts are in the stage, with the root filesystem and /sys
	Nodes    []string    // where they go
	Ulimits  []ulimit
	UIDs     idMap
	GIDs     idMap
}

// report is what the init tells; exactly one field is set.
type report struct {
	Terminal bool     `json:",omitempty"` // the terminal's master and slave travel with it
	Ready    bool     `json:",omitempty"` // all is done but the filter and execve
	Listener bool     `json:",omitempty"` // the listener travels with it
	Failure  *failure `json:",omitempty"`
	// ExecErrno is why execve failed although the command was found.
	ExecErrno syscall.Errno `json:",omitempty"`
}

// failure is an error on its way from the init to the caller.
type failure struct {
	Message string
	Errno   syscall.Errno
	// Command is set when the container is ready and only the command cannot be executed.
	Command bool
}

func (f *failure) Error() string { return f.Message }

// Unwrap gives errors.Is the errno.
func (f *failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

func encodeMessage(message any) ([]byte, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	if len(body) > messageMax {
		return nil, fmt.Errorf("message of %d bytes exceeds %d", len(body), messageMax)
	}
	return append(binary.NativeEndian.AppendUint32(nil, uint32(len(body))), body...), nil
}

func sendMessage(socket int, message any, descriptors ...int) error {
	data, err := encodeMessage(message)
	if err != nil {
		return err
	}
	return linux.Send(socket, data, descriptors...)
}

// receiveMessage returns the descriptors that came along, close-on-exec, or io.EOF when the other side has closed the
// socket or died.
func receiveMessage(socket int, message any) ([]int, error) {
	header := make([]byte, headerSize)
	n, descriptors, err := linux.Receive(socket, header, descriptorsMax)
	if err != nil {
		return nil, err
	}
	if err = receiveFull(socket, header[n:]); err == nil {
		err = receiveBody(socket, binary.NativeEndian.Uint32(header), message)
	}
	if err != nil {
		linux.CloseAll(descriptors...)
		return nil, err
	}
	return descriptors, nil
}

func receiveBody(socket int, size uint32, message any) error {
	if size > messageMax {
		return fmt.Errorf("message of %d bytes exceeds %d", size, messageMax)
	}
	body := make([]byte, size)
	if err := receiveFull(socket, body); err != nil {
		return err
	}
	return json.Unmarshal(body, message)
}

// receiveFull fills the buffer. No descriptors come any more.
func receiveFull(socket int, buffer []byte) error {
	for len(buffer) > 0 {
		n, _, err := linux.Receive(socket, buffer, 0)
		if err != nil {
			return err
		}
		buffer = buffer[n:]
	}
	return nil
}
