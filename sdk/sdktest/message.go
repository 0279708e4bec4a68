package sdktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

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

// maxMessage bounds a message: the arguments of a program are in one.
const maxMessage = 128 << 10

// socketpair makes two connected SOCK_SEQPACKET sockets.
func socketpair() (ours, theirs int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	return pair[0], pair[1], nil
}

// send sends one message with descriptors.
func send(socket int, message any, fds ...int) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(text) > maxMessage {
		return fmt.Errorf("a message of %d bytes: the limit is %d", len(text), maxMessage)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err := unix.Sendmsg(socket, text, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// receive waits for one message and its descriptors; io.EOF when the other end is closed.
func receive(socket int, message any) ([]int, error) {
	buf := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(16*4))
	var n, nrights int
	var err error
	for {
		n, nrights, _, _, err = unix.Recvmsg(socket, buf, rights, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if errors.Is(err, unix.ECONNRESET) || err == nil && n == 0 {
		return nil, io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("recvmsg: %w", err)
	}
	fds, err := parseRights(rights[:nrights])
	if err != nil {
		return nil, err
	}
	return fds, json.Unmarshal(buf[:n], message)
}

func parseRights(rights []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var fds []int
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
