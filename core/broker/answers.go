package broker

import (
	"errors"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/pause"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Answers answers the caller of a notification: a listener does, or a connection to a program that has one. If nobody
// waits for the answer to an id any more, the error is notify.ErrGone.
type Answers interface {
	Valid(id uint64) bool
	SendValue(id uint64, value int64) error
	// SendValueDoubting returns notify.ErrGone whenever the kernel finds nobody who waits, and reports whether the
	// answer may be lost although it found somebody: see notify.FD.
	SendValueDoubting(id uint64, value int64) (doubtful bool, err error)
	SendErrno(id uint64, errno unix.Errno) error
	SendContinue(id uint64) error
	// SendFD adds this process's descriptor src to the caller's table and answers with its number, which it returns.
	SendFD(id uint64, src int, closeOnExec bool) (int, error)
}

// answer writes memory back and answers the kernel. Nothing else in the broker answers it, but the watchdog: the call
// is then lost.
func (c *call) answer(d decision) audit.Outcome {
	defer func() {
		if d.added != nil {
			d.added.Close()
		}
	}()
	response := c.settleDoubt(d)
	if response != d.response {
		d.reason = audit.Reason{}
	}
	pause.At(pause.Answer)
	errno := c.writeBack(response.GetWrites())
	for !c.settle() { // a notification has taken this one's place, whose caller may not have been there to be written to
		errno = c.writeBack(response.GetWrites())
	}
	if errno != 0 {
		response, d.reason = errnoResponse(int32(errno)), audit.Reason{Code: codeNotWritten}
	}
	c.awaitSleep(response)
	outcome := audit.Outcome{Plugin: d.plugin, Err: d.err, Kind: audit.Gone, Reason: d.reason}
	if !c.claim() || d.gone {
		return outcome
	}
	if d.again {
		outcome.Kind = audit.Again
		return outcome
	}
	c.witness = c.attachment.witnesses(c.notification.TID, d.by, response, &d.reason)
	err := c.send(response, d.added, &outcome)
	switch {
	case err == nil && c.doubtful:
		c.keepDoubtful(response)
	case err == nil:
		c.desk.slot.Clear() // at once: a broker that ended here would leave it open whether LXC has the answer
		c.forget()
	case errors.Is(err, notify.ErrGone):
		outcome.Kind = audit.Gone
		if c.keep(response, d.added) {
			d.added = nil
		}
	default:
		outcome.Err = errors.Join(outcome.Err, err)
		outcome.Kind, outcome.Errno = audit.Errno, unix.ENOSYS
		outcome.Reason = audit.Reason{Code: codeNotAnswered, Text: wire.Plain(err.Error(), wire.MaxReasonText)}
		c.answers.SendErrno(c.id.Load(), unix.ENOSYS) // otherwise the caller would wait for ever
	}
	return outcome
}

// writeBack writes the result memory, if the caller still waits: send finds out that it does not. If it fails, the
// caller gets the errno.
func (c *call) writeBack(writes []*wire.Write) unix.Errno {
	stay := c.stay()
	errno := capture.WriteBack(int(c.notification.TID), writes, stay)
	switch {
	case errno == unix.ESRCH && !stay.Valid():
		return 0
	case errno != 0:
		return unix.EFAULT
	}
	return 0
}

// send answers the kernel, and notes in outcome what the caller gets.
func (c *call) send(response *wire.Response, added *lane.Descriptor, outcome *audit.Outcome) error {
	id := c.id.Load()
	pause.At(pause.Send)
	switch kind := response.GetKind().(type) {
	case *wire.Response_Value:
		outcome.Kind, outcome.Value = audit.Return, kind.Value
		c.desk.slot.Decide(journal.Value, kind.Value)
		return c.sendValue(id, kind.Value)
	case *wire.Response_Errno:
		outcome.Kind, outcome.Errno = audit.Errno, unix.Errno(kind.Errno)
		c.desk.slot.Decide(journal.Errno, int64(kind.Errno))
		return c.answers.SendErrno(id, outcome.Errno)
	case *wire.Response_AddFd:
		return c.sendFD(kind.AddFd, added, outcome)
	default:
		outcome.Kind = audit.Continue
		c.desk.slot.Decide(journal.Continue, 0)
		return c.answers.SendContinue(id)
	}
}

// sendFD adds the descriptor and answers with its number in one step. If the caller's table is full, its call fails
// with the kernel's errno (EMFILE).
func (c *call) sendFD(add *wire.AddFD, added *lane.Descriptor, outcome *audit.Outcome) error {
	id := c.id.Load()
	c.desk.slot.Decide(journal.Descriptor, 0)
	number, err := c.answers.SendFD(id, added.FD(), add.GetCloseOnExec())
	outcome.Kind, outcome.Value = audit.AddFD, int64(number)
	var errno unix.Errno
	if err == nil || errors.Is(err, notify.ErrGone) || !errors.As(err, &errno) {
		return err
	}
	outcome.Kind, outcome.Value, outcome.Errno = audit.Errno, 0, errno
	outcome.Reason = audit.Reason{Code: codeNotAdded}
	return c.answers.SendErrno(id, errno)
}
