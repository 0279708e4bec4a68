package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/syscalls"
	"golang.org/x/sys/unix"
)

// Refusal is a system call that the filter refused to the plugin's process, or to one that it started: it got EPERM.
type Refusal struct {
	Name      string // of the call
	Arguments [6]uint64
}

// String shows the arguments in hex, since those that are flags say what was not allowed of a call that is in part.
func (r Refusal) String() string {
	arguments := make([]string, len(r.Arguments))
	for i, a := range r.Arguments {
		arguments[i] = fmt.Sprintf("%#x", a)
	}
	return fmt.Sprintf("%s(%s)", r.Name, strings.Join(arguments, ", "))
}

// refusalPause is between the answers to two calls that are refused: a plugin that makes nothing else must not keep the
// broker busy.
const refusalPause = time.Millisecond

// A refused call is a notification: its caller waits for the broker, which notes it and answers with EPERM. So the
// broker knows of it, however the process takes the error, and calls that are allowed cost what they would cost
// otherwise. The filter's listener comes over the lifeline, before the process becomes the plugin, and closes by the
// exec.

// sendListener gives the broker the filter's listener.
func sendListener(listener notify.FD) error {
	if err := linux.Send(lifelineFD, []byte{0}, int(listener)); err != nil {
		return fmt.Errorf("hand over the listener of the seccomp filter: %w", err)
	}
	return nil
}

// answerRefusals answers the calls that are refused, until no process has the filter any more, or the one that is to
// become the plugin ends before it sends the listener.
func answerRefusals(lifeline *os.File, refused func(Refusal)) {
	listener, err := receiveListener(lifeline)
	if err != nil {
		return
	}
	defer listener.Close()
	raw, err := listener.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) (over bool) {
		for {
			pending, hangup, err := notify.FD(fd).Poll(0)
			if hangup || err != nil {
				return true
			}
			if !pending {
				return false
			}
			refuse(notify.FD(fd), refused)
		}
	})
}

// receiveListener takes the first message of the lifeline. Later ones would be the plugin's.
func receiveListener(lifeline *os.File) (listener *os.File, err error) {
	raw, err := lifeline.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fds []int
	readErr := raw.Read(func(fd uintptr) bool {
		_, fds, err = linux.Receive(int(fd), make([]byte, 1), 1)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err = errors.Join(readErr, err); err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, io.ErrUnexpectedEOF
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // for os.NewFile to have the Go runtime poll it
		unix.Close(fds[0])
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "listener of a plugin's filter"), nil
}

// refuse answers the notification that is pending.
func refuse(listener notify.FD, refused func(Refusal)) {
	var n notify.Notification
	if listener.Receive(&n) != nil {
		return // its caller is gone
	}
	listener.SendErrno(n.ID, unix.EPERM)
	refused(Refusal{syscalls.Name(uint32(n.NR)), n.Args})
	time.Sleep(refusalPause)
}
