package sdktest

import (
	"encoding/json"
	"fmt"
	"syscall"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// setup is the first message to a container's init, with the mounts' descriptors.
type setup struct {
	Rootfs string
	Mounts []string // where the descriptors are mounted
}

// start is each further message to init: start a program, whose standard files and report socket come with it as
// descriptors.
type start struct{}

// order is what a program's stage reads from its report socket.
type order struct {
	Path   string
	Args   []string
	Filter []unix.SockFilter // empty: no interception
}

// report is what comes back on a report socket, and once on init's when the container is ready.
type report struct {
	Event  event
	Error  string         // of broken
	Code   int            // of exited
	Signal syscall.Signal // of exited
}

type event string

const (
	ready    event = "ready"
	started  event = "started"  // with the pidfd
	filtered event = "filtered" // with the listener
	exited   event = "exited"
	broken   event = "broken"
)

const (
	maxMessage     = 128 << 10 // bytes: the arguments of a program are in one
	maxDescriptors = 16
)

// send sends one message with descriptors.
func send(socket int, message any, fds ...int) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("a message of %d bytes: the limit is %d", len(text), maxMessage)
	}
	return linux.Send(socket, text, fds...)
}

// receive waits for one message and its descriptors; io.EOF when the other end is closed.
func receive(socket int, message any) ([]int, error) {
	text := make([]byte, maxMessage)
	n, fds, err := linux.Receive(socket, text, maxDescriptors)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text[:n], message); err != nil {
		linux.CloseAll(fds...)
		return nil, err
	}
	return fds, nil
}
