package lxc

import (
	"errors"
	"fmt"
	"time"

	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

const (
	// Patience is how long an answer may take to be found.
	Patience = 25 * time.Second
	// sendLimit is how long after a packet's arrival an answer is sent: LXC waits for 30 seconds
	// (seccomp_notify_reconnect).
	sendLimit = 28 * time.Second
)

// errLate means that LXC may not wait any more.
var errLate = fmt.Errorf("too late for LXC: %w", notify.ErrGone)

// Exchange is one notification and the way to its caller. It is good until the connection's next Receive; its methods
// but Valid are for the goroutine of that. Errors wrap notify.ErrGone where nobody waits for the answer any more.
type Exchange struct {
	Notification notify.Notification
	Init         int            // pid of the container's first process
	Cookie       string         // lxc.seccomp.notify.cookie
	caller       *target.Target // which waited when the packet came
	End          time.Time      // when the answer must be there

	connection *Connection
	data       []byte // the packet
	listener   notify.FD
	received   time.Time
	answered   bool // LXC has its reply
}

// newExchange takes the listener over.
func newExchange(c *Connection, p packet, data []byte, listener notify.FD, received time.Time) (*Exchange, error) {
	caller, err := target.Open(int(p.notification.TID))
	if err != nil {
		unix.Close(int(listener))
		return nil, errors.Join(err, notify.ErrGone)
	}
	x := &Exchange{
		Notification: p.notification, Init: p.init, Cookie: p.cookie, caller: caller, End: received.Add(Patience),
		connection: c, data: data, listener: listener, received: received,
	}
	if !x.Valid(p.notification.ID) { // the thread id may have been another thread's when it was opened
		x.close()
		return nil, fmt.Errorf("the caller's thread: %w", notify.ErrGone)
	}
	return x, nil
}

func (x *Exchange) close() {
	x.caller.Close()
	unix.Close(int(x.listener))
}

// Valid reports whether the caller still waits. The monitor names the caller's thread, and may be wrong. So the thread
// that was opened must live too: its number could otherwise be another thread's by now.
func (x *Exchange) Valid(id uint64) bool {
	return id == x.Notification.ID && x.listener.Valid(id) && x.caller.Alive() == nil
}

// SendValue makes the call return value.
func (x *Exchange) SendValue(id uint64, value int64) error {
	return x.answer(response{ID: id, Value: value})
}

// SendValueDoubting answers without LXC, which asks whether the caller waits before it answers, and does not tell what
// came of that; see notify.FD. What LXC gets afterwards is answered already, and it logs that.
func (x *Exchange) SendValueDoubting(id uint64, value int64) (doubtful bool, err error) {
	if err := x.check(id); err != nil {
		return false, err
	}
	if doubtful, err = x.listener.SendValueDoubting(id, value); err != nil {
		return false, err
	}
	x.reply(response{ID: id, Value: value}) // the call is answered, whatever becomes of LXC
	return doubtful, nil
}

// release lets LXC go on where there is no answer: nobody waits for it any more, or LXC is to say ENOSYS to whoever
// does. It fails if LXC may not wait for the packet any more, and would take it for the answer to the next one.
func (x *Exchange) release() error {
	switch {
	case x.answered:
		return nil
	case time.Since(x.received) > sendLimit:
		return errLate
	}
	return x.reply(response{ID: x.Notification.ID, Errno: -int32(unix.ENOSYS)})
}

// SendErrno makes the call fail with errno, which is positive.
func (x *Exchange) SendErrno(id uint64, errno unix.Errno) error {
	return x.answer(response{ID: id, Errno: -int32(errno)})
}

// SendContinue lets the kernel perform the call itself; see notify.FD.SendContinue.
func (x *Exchange) SendContinue(id uint64) error {
	return x.answer(response{ID: id, Flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// SendFD puts the own descriptor src into the caller's table and makes the call return its number, in one step, which
// LXC cannot do. What LXC gets afterwards is answered already, and it logs that.
func (x *Exchange) SendFD(id uint64, src int, closeOnExec bool) (int, error) {
	if err := x.check(id); err != nil {
		return 0, err
	}
	number, err := x.listener.SendFD(id, src, closeOnExec)
	if err != nil {
		return 0, err
	}
	x.reply(response{ID: id, Value: int64(number)}) // the call is answered, whatever becomes of LXC
	return number, nil
}

func (x *Exchange) answer(r response) error {
	if err := x.check(r.ID); err != nil {
		return err
	}
	return x.reply(r)
}

// check makes sure that LXC waits for the answer to this notification and no other. A notification that LXC has
// answered by itself is no longer valid.
func (x *Exchange) check(id uint64) error {
	switch {
	case x.answered:
		return fmt.Errorf("answered already: %w", notify.ErrGone)
	case time.Since(x.received) > sendLimit:
		return errLate
	case !x.Valid(id):
		return notify.ErrGone
	}
	return nil
}

func (x *Exchange) reply(r response) error {
	if err := x.connection.send(encodeReply(x.data, r)); err != nil {
		return fmt.Errorf("the monitor is gone: %w: %w", notify.ErrGone, err)
	}
	x.answered = true
	return nil
}
