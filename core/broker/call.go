package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// call is one notification on its way.
type call struct {
	*attachment
	answers  Answers
	n        notify.Notification
	end      time.Time // after which an answer is of no use; zero: never
	foreign  bool      // the caller is outside the container
	gone     bool      // the caller was gone before the call was looked at
	name     string
	declared *wire.Syscall  // by the plugin that decides
	reads    []*wire.Memory // what it declared to read
	allowed  time.Duration  // for the plugin's answer
	inPlugin time.Duration
	*desk
}

// desk is a thread's space for the calls that it handles, one after the other, so that none needs memory of its own.
type desk struct {
	cpu      int // of the thread
	call     call
	snapshot wire.Snapshot
	dialogue lane.Dialogue
}

// begin clears the desk for a call, whose notification is yet to come.
func (d *desk) begin(a *attachment, answers Answers) *call {
	d.call = call{attachment: a, answers: answers, desk: d}
	return &d.call
}

// handle answers the notification, exactly once.
func (c *call) handle() {
	c.calls.Add(1)
	started := time.Now()
	outcome := c.answer(c.decide())
	if outcome.Err != nil {
		c.failures.Add(1)
	}
	record := audit.Record{
		Container: c.container.ID, Syscall: c.name, Declared: c.declared, Reads: c.reads,
		Notification: &c.n, Outcome: outcome, Duration: time.Since(started), InPlugin: c.inPlugin,
	}
	c.broker.audit.Call(record)
	if c.broker.observe != nil {
		c.broker.observe(record)
	}
}

// decision is what the caller is to get.
type decision struct {
	plugin   string
	response *wire.Response
	added    *lane.Descriptor // by an ADDFD response
	err      error            // why a plugin failed, if it did: the response is then the failure verdict
	gone     bool             // there is no caller any more
}

// continueResponse is for calls that no plugin decided, and for failure verdicts. The kernel then does all of the call, as
// if there were no filter, and checks the caller's own privileges: nothing of what the broker saw is relied on.
var continueResponse = &wire.Response{Kind: &wire.Response_Continue{Continue: true}}

// decide asks the plugins that take the call, in order. Without one the kernel performs the call: nobody wanted it, so
// that it is as if it had not been intercepted.
func (c *call) decide() decision {
	name, known := c.generation.SyscallName(c.n.Arch, c.n.NR)
	if !known {
		c.name = fmt.Sprintf("#%d", c.n.NR)
		return decision{response: continueResponse}
	}
	c.name = name
	switch {
	case c.gone:
		return decision{gone: true}
	case c.foreign:
		return decision{response: continueResponse}
	}
	for _, r := range c.routes[name] {
		if !r.syscall.Wants(c.n.Arch, &c.n.Args) {
			continue
		}
		s := &c.plugins[r.plugin]
		d := c.ask(s, r.syscall)
		if d.response.GetNext() && d.err == nil {
			continue
		}
		d.plugin = s.binding.Plugin.Name()
		return d
	}
	return decision{response: continueResponse}
}

// ask lets one plugin decide.
func (c *call) ask(s *boundPlugin, declared *wire.Syscall) decision {
	response, added, err := c.consult(s, declared)
	switch {
	case err == nil:
		return decision{response: response, added: added}
	case saysGone(err) && !c.Valid():
		return decision{gone: true}
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %v: %w", c.allowed, err)
	}
	return decision{response: failureResponse(s.binding.OnFailure), err: err}
}

// saysGone is for errors that say that the caller is gone. A plugin may err, or lie: the kernel knows.
func saysGone(err error) bool {
	return errors.Is(err, lane.ErrGone) || errors.Is(err, notify.ErrGone) || errors.Is(err, errContainerGone)
}

// consult takes the snapshot and carries the notification to the plugin.
func (c *call) consult(s *boundPlugin, declared *wire.Syscall) (*wire.Response, *lane.Descriptor, error) {
	if c.ctx.Err() != nil {
		return nil, nil, context.Cause(c.ctx)
	}
	if s.session == nil {
		return nil, nil, s.refused
	}
	if c.n.TID == 0 {
		return nil, nil, errors.New("the caller is in a pid namespace that the broker does not see")
	}
	c.declared, c.reads = declared, c.snapshot.Take(int(c.n.TID), declared.GetReads(), c.n.Arch, &c.n.Args)
	// The thread id may have been another thread's when the memory was read: not if the caller still waits.
	if len(c.reads) > 0 && !c.Valid() {
		return nil, nil, notify.ErrGone
	}
	handed := time.Now()
	if c.allowed = c.timeout(s.binding.Deadline, handed); c.allowed <= 0 {
		return nil, nil, context.DeadlineExceeded
	}
	n := &c.dialogue.Notification
	n.Id, n.Syscall, n.Arch, n.Nr, n.Tid = c.n.ID, c.name, c.n.Arch, c.n.NR, int32(c.n.TID)
	n.Args, n.Reads = c.n.Args[:], c.reads
	response, added, err := s.session.Handle(c.ctx, &c.dialogue, c, c.allowed, c.cpu)
	c.inPlugin += time.Since(handed)
	if err != nil {
		return nil, nil, err
	}
	if err := checkResponse(response, added); err != nil {
		return nil, nil, err
	}
	return response, added, nil
}

// timeout is how long a plugin with this deadline may take from now on.
func (c *call) timeout(deadline time.Duration, now time.Time) time.Duration {
	if c.end.IsZero() {
		return deadline
	}
	return min(deadline, c.end.Sub(now))
}

// checkResponse refuses what a plugin may not answer.
func checkResponse(response *wire.Response, added *lane.Descriptor) error {
	switch kind := response.GetKind().(type) {
	case *wire.Response_Value:
		return nil
	case *wire.Response_Continue, *wire.Response_Next:
		if n := len(response.GetWrites()); n > 0 {
			return fmt.Errorf("the plugin answered continue or next with %d writes: the kernel, or the next plugin, would read them", n)
		}
		return nil
	case *wire.Response_Errno:
		if kind.Errno < 1 || kind.Errno > wire.MaxErrno {
			return fmt.Errorf("the plugin answered errno %d", kind.Errno)
		}
		return nil
	case *wire.Response_AddFd:
		if added == nil {
			return errors.New("the plugin answered a descriptor without one")
		}
		return nil
	default:
		return errors.New("the plugin answered nothing")
	}
}

// failureResponse is the verdict as a response; where there is none, the plugin's calls are not there (ENOSYS).
func failureResponse(v *wire.Verdict) *wire.Response {
	switch kind := v.GetKind().(type) {
	case *wire.Verdict_Continue:
		return continueResponse
	case *wire.Verdict_Errno:
		return &wire.Response{Kind: &wire.Response_Errno{Errno: kind.Errno}}
	default:
		return &wire.Response{Kind: &wire.Response_Errno{Errno: int32(unix.ENOSYS)}}
	}
}

// Valid implements lane.Caller.
func (c *call) Valid() bool { return c.answers.Valid(c.n.ID) }

// ReadMemory implements lane.Caller. A caller that is gone is ESRCH.
func (c *call) ReadMemory(question *wire.ReadMemory) *wire.Memory {
	copied := wire.Ask(int(c.n.TID), question)
	if !c.Valid() {
		return &wire.Memory{Errno: int32(unix.ESRCH)}
	}
	return copied
}

// answer writes memory back and answers the kernel. It is the only place that does.
func (c *call) answer(d decision) audit.Outcome {
	if d.added != nil {
		defer d.added.Close()
	}
	outcome := audit.Outcome{Plugin: d.plugin, Err: d.err}
	if d.gone {
		outcome.Kind = audit.Gone
		return outcome
	}
	response := d.response
	if errno := c.writeBack(response.GetWrites()); errno != 0 {
		response = &wire.Response{Kind: &wire.Response_Errno{Errno: int32(errno)}}
	}
	err := c.send(response, d.added, &outcome)
	switch {
	case errors.Is(err, notify.ErrGone):
		outcome.Kind = audit.Gone
	case err != nil:
		outcome.Err = errors.Join(outcome.Err, err)
		outcome.Kind, outcome.Errno = audit.Errno, unix.ENOSYS
		c.answers.SendErrno(c.n.ID, unix.ENOSYS) // else the caller would wait for ever
	}
	return outcome
}

// writeBack writes the result memory, if the caller still waits. The errno is what the caller gets otherwise.
func (c *call) writeBack(writes []*wire.Write) unix.Errno {
	if len(writes) == 0 || !c.Valid() {
		return 0 // a caller that is gone is noticed by send
	}
	for _, w := range writes {
		if errno := linux.WriteMemory(int(c.n.TID), w.GetAddress(), w.GetData()); errno != 0 {
			return unix.EFAULT
		}
	}
	return 0
}

func (c *call) send(response *wire.Response, added *lane.Descriptor, outcome *audit.Outcome) error {
	switch kind := response.GetKind().(type) {
	case *wire.Response_Value:
		outcome.Kind, outcome.Value = audit.Return, kind.Value
		return c.answers.SendValue(c.n.ID, kind.Value)
	case *wire.Response_Errno:
		outcome.Kind, outcome.Errno = audit.Errno, unix.Errno(kind.Errno)
		return c.answers.SendErrno(c.n.ID, outcome.Errno)
	case *wire.Response_AddFd:
		return c.sendFD(kind.AddFd, added, outcome)
	default:
		outcome.Kind = audit.Continue
		return c.answers.SendContinue(c.n.ID)
	}
}

// sendFD adds the descriptor and answers with its number in one step. If the caller's table takes no more, its call
// fails with the kernel's errno (EMFILE).
func (c *call) sendFD(add *wire.AddFD, added *lane.Descriptor, outcome *audit.Outcome) error {
	number, err := c.answers.SendFD(c.n.ID, added.FD(), add.GetCloseOnExec())
	outcome.Kind, outcome.Value = audit.AddFD, int64(number)
	var errno unix.Errno
	if err == nil || errors.Is(err, notify.ErrGone) || !errors.As(err, &errno) {
		return err
	}
	outcome.Kind, outcome.Value, outcome.Errno = audit.Errno, 0, errno
	return c.answers.SendErrno(c.n.ID, errno)
}
