package run

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// A message is a length (uint32, native byte order), then JSON. Descriptors travel with its first byte.
const (
	headerSize     = 4
	messageMax     = 64 << 20
	descriptorsMax = 4
)

// request is all that the init needs to know. The root filesystem's mount travels with it.
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
	var rights []byte
	if len(descriptors) > 0 {
		rights = unix.UnixRights(descriptors...)
	}
	for len(data) > 0 {
		n, err := unix.SendmsgN(socket, data, rights, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		data, rights = data[n:], nil
	}
	return nil
}

// receiveMessage returns the descriptors that came along, close-on-exec, or io.EOF when the other side has closed the
// socket or died.
func receiveMessage(socket int, message any) ([]int, error) {
	header := make([]byte, headerSize)
	descriptors, err := receiveFull(socket, header)
	if err != nil {
		return nil, err
	}
	size := binary.NativeEndian.Uint32(header)
	if size > messageMax {
		closeAll(descriptors)
		return nil, fmt.Errorf("message of %d bytes exceeds %d", size, messageMax)
	}
	body := make([]byte, size)
	if _, err = receiveFull(socket, body); err == nil {
		err = json.Unmarshal(body, message)
	}
	if err != nil {
		closeAll(descriptors)
		return nil, err
	}
	return descriptors, nil
}

func receiveFull(socket int, buffer []byte) ([]int, error) {
	var descriptors []int
	for len(buffer) > 0 {
		rights := make([]byte, unix.CmsgSpace(4*descriptorsMax))
		n, rightsLen, _, _, err := unix.Recvmsg(socket, buffer, rights, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 || errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		if err != nil {
			closeAll(descriptors)
			return nil, err
		}
		descriptors = append(descriptors, parseRights(rights[:rightsLen])...)
		buffer = buffer[n:]
	}
	return descriptors, nil
}

func parseRights(data []byte) []int {
	messages, err := unix.ParseSocketControlMessage(data)
	if err != nil {
		return nil
	}
	var all []int
	for i := range messages {
		if descriptors, err := unix.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, descriptors...)
		}
	}
	return all
}

func closeAll(descriptors []int) {
	for _, fd := range descriptors {
		unix.Close(fd)
	}
}
