package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/intercede/intercede/sdk/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// containerProcessState is what a runtime says of a container (config-linux.md, OCI runtime specification).
type containerProcessState struct {
	FDs   []string `json:"fds"`
	State struct {
		ID  string `json:"id"`
		PID int    `json:"pid"`
	} `json:"state"`
}

const (
	maxState = 1 << 20 // bytes
	maxFiles = 16
)

// receive takes the listener that a runtime brings. Nothing ends its message but the end of the JSON object, since
// runtimes keep the connection open.
func receive(runtime *net.UnixConn, deadline time.Time) (*container, error) {
	defer runtime.Close()
	runtime.SetReadDeadline(deadline)
	m := &message{runtime: runtime}
	defer m.close()
	var state containerProcessState
	if err := json.NewDecoder(io.LimitReader(m, maxState)).Decode(&state); err != nil {
		return nil, err
	}
	i := slices.Index(state.FDs, "seccompFd")
	if i < 0 || i >= len(m.files) {
		return nil, errors.New("the runtime sent no seccomp listener")
	}
	namespace, err := target.StatNamespace(fmt.Sprintf("/proc/%d/ns/user", state.State.PID))
	if err != nil {
		return nil, err
	}
	listener, err := notify.NewListener(m.files[i])
	if err != nil {
		return nil, err
	}
	m.files[i] = nil // it is the listener's now
	return &container{id: state.State.ID, namespace: namespace, listener: listener}, nil
}

// message is a reader of what a runtime sends. It collects the descriptors that come with that.
type message struct {
	runtime *net.UnixConn
	files   []*os.File
}

// Read implements io.Reader.
func (m *message) Read(p []byte) (int, error) {
	control := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, controlled, flags, _, err := m.runtime.ReadMsgUnix(p, control)
	messages, parseErr := unix.ParseSocketControlMessage(control[:controlled])
	for _, message := range messages {
		fds, rightsErr := unix.ParseUnixRights(&message)
		for _, fd := range fds {
			m.files = append(m.files, os.NewFile(uintptr(fd), "of a runtime"))
		}
		parseErr = errors.Join(parseErr, rightsErr)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		parseErr = errors.New("the runtime sent too many descriptors")
	}
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, errors.Join(err, parseErr)
}

func (m *message) close() {
	for _, file := range m.files {
		if file != nil {
			file.Close()
		}
	}
}
