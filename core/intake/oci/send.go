package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/intercede/intercede/core/socket"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Send delivers a listener to the broker at path, as an OCI runtime does, and returns when all is written: the
// protocol has no acknowledgement. state.Fds is replaced by the one name that fits. The caller keeps its own
// descriptor and should close it: while any is open, the death of the broker leaves notified calls parked instead of
// failing with ENOSYS.
//
// Returns an error wrapping [ErrMessage] for a state that the broker would refuse, [ErrDescriptors] for a file that
// is not a seccomp listener, the cause of ctx when that is done, and otherwise the failing system call's error.
func Send(ctx context.Context, path string, state specs.ContainerProcessState, listener *os.File) error {
	message, err := encodeState(state)
	if err != nil {
		return err
	}
	if err := socket.CheckPath(path); err != nil {
		return fmt.Errorf("the runtime socket %q: %w", path, err)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("connecting to the broker; is `intercede serve` running with this socket? %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = writeMessage(conn.(*net.UnixConn), message, listener)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("sending the seccomp listener to %q: %w", path, err)
	}
	return nil
}

func encodeState(state specs.ContainerProcessState) ([]byte, error) {
	state.Fds = []string{specs.SeccompFdName}
	if err := checkState(state); err != nil {
		return nil, err
	}
	message, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encoding the container process state: %w", err)
	}
	if len(message) > MaxMessage {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed; shorten the annotations",
			ErrMessage, len(message), MaxMessage)
	}
	return message, nil
}

// writeMessage sends the descriptor with the message's first bytes, and then the bytes that did not fit.
func writeMessage(conn *net.UnixConn, message []byte, listener *os.File) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	var sent int
	var failure error
	err = raw.Control(func(fd uintptr) {
		if failure = requireListener(int(fd)); failure == nil {
			sent, _, failure = conn.WriteMsgUnix(message, unix.UnixRights(int(fd)), nil)
		}
	})
	if err := errors.Join(err, failure); err != nil {
		return err
	}
	return writeRest(conn, message[sent:])
}

// writeRest writes nothing if nothing is left: even an empty write fails once the broker, having all, has hung up.
func writeRest(conn *net.UnixConn, rest []byte) error {
	if len(rest) == 0 {
		return nil
	}
	_, err := conn.Write(rest)
	return err
}
