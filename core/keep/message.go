package keep

import (
	"strings"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// maxMessageDescriptors is how many descriptors the kernel takes with one message (SCM_MAX_FD).
const maxMessageDescriptors = 253

// message is one that came over a Unix socket.
type message struct {
	data  []byte
	fds   []int // close-on-exec; they belong to whoever received the message
	pid   int32 // of the sender, where the socket has SO_PASSCRED
	short bool  // a part did not arrive
}

// receive receives a message without waiting. The error is an errno of recvmsg(2); there are no descriptors with it.
func receive(socket int, buffer []byte) (m message, err error) {
	control := make([]byte, unix.CmsgSpace(4*maxMessageDescriptors)+unix.CmsgSpace(unix.SizeofUcred))
	n, controlled, flags, _, err := unix.Recvmsg(socket, buffer, control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return message{}, err
	}
	m = message{data: buffer[:n], short: flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0}
	parts, err := unix.ParseSocketControlMessage(control[:controlled])
	if err != nil {
		m.short = true
	}
	for _, part := range parts {
		if fds, err := unix.ParseUnixRights(&part); err == nil {
			m.fds = append(m.fds, fds...)
		} else if sender, err := unix.ParseUnixCredentials(&part); err == nil {
			m.pid = sender.Pid
		}
	}
	return m, nil
}

// takeOver is the assignment by which a broker says that it receives from now on. systemd passes over it
// (sd_notify(3): names that begin with X_).
const takeOver = "X_INTERCEDE_TAKEOVER=1"

// take asks a fallback for its descriptors.
const take = "X_INTERCEDE_TAKE=1"

// news is what a message says of its sender's state.
type news struct {
	ready, stopping, alive bool
	takeOver               bool // it receives calls from now on
	take                   bool // it asks for all descriptors
}

// defaultName is the name of a stored descriptor whose message had none (sd_notify(3)).
const defaultName = "stored"

// read does what a message says about descriptors, and returns what else it says. The message's descriptors are kept or
// closed.
func (s *shelf) read(m message) news {
	fds := m.fds
	defer func() { linux.CloseAll(fds...) }()
	if m.short {
		s.log.Error("a message of the broker did not arrive whole: a descriptor may be lost when the broker ends (RLIMIT_NOFILE)")
		return news{}
	}
	said := assignments(string(m.data))
	name, named := said["FDNAME"]
	switch {
	case said["FDSTORE"] == "1":
		if !named {
			name = defaultName
		}
		for _, fd := range fds {
			s.put(name, fd)
		}
		fds = nil
	case said["FDSTOREREMOVE"] == "1":
		s.remove(name)
	}
	// The descriptor of a barrier is closed here: what came before is done.
	return news{
		ready: said["READY"] == "1", takeOver: said["X_INTERCEDE_TAKEOVER"] == "1", alive: said["WATCHDOG"] == "1",
		stopping: said["STOPPING"] == "1", take: said["X_INTERCEDE_TAKE"] == "1",
	}
}

// assignments splits a message into its lines (sd_notify(3)).
func assignments(text string) map[string]string {
	said := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(line, "="); ok {
			said[name] = value
		}
	}
	return said
}
