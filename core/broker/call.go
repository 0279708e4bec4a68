package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/journal"
	"github.com/intercede/intercede/core/listener"
	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/pause"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// call is one notification on its way: this file follows it from the listener to the decision, and answers.go from
// there to the answer.
type call struct {
	attachment   *attachment // of the container that makes the call
	terms        *terms      // that the container has while the call is handled
	answers      Answers
	desk         *desk
	notification *notify.Notification
	began        time.Time      // to be handled
	end          time.Time      // after which an answer is of no use; zero: never
	doubted      bool           // the caller may be outside the container: see locate
	name         string         // of the syscall
	declared     *wire.Syscall  // by the plugin that decides
	kept         *wire.Store    // of that plugin
	reads        []*wire.Memory // what it declared to read
	asked        time.Time      // when the plugin that decides was asked
	allowed      time.Duration  // for its answer, with what it takes to ask
	inPlugin     time.Duration
	armed        bool // its source, for the next call
	lost         bool // the watchdog has answered it
	witness      witness
	resumed      resumed

	// See again.go.
	id       atomic.Uint64 // of the notification that is to be answered
	lastStay stay
	known    bool // it is in again, or was
	// Guarded by again.mu.
	answering bool          // its answer is on its way
	abandoned bool          // no other notification takes the place of this one
	followed  chan struct{} // closed when one does; nil: nobody waits for that
	// See doubt.go.
	runs     bool           // the caller did not sleep when it was looked at before the answer
	doubtful bool           // its answer may be lost
	doubt    *wire.Response // the answer that may be lost of the call that this one may be again; nil: there is none
}

// desk is a thread's space for the calls that it handles, one after the other: so a call allocates nothing.
type desk struct {
	thread   *thread // nil where calls are only left over from a broker that closes
	cpu      int     // of the plugins' threads that it works with
	slot     *journal.Slot
	call     call
	post     post
	snapshot wire.Snapshot
	dialogue lane.Dialogue
	captured []byte // of the call, see call.appendCaptured
}

func (b *Broker) newDesk(t *thread, worker bool) *desk {
	return &desk{thread: t, slot: b.state.Journal.Take(), post: post{worker: worker}}
}

// begin makes the desk's call a new one, which has no notification yet, and was counted in.
func (d *desk) begin(a *attachment, answers Answers) *call {
	d.call = call{
		attachment: a, terms: a.terms.Load(), answers: answers, doubted: a.doubted.Load(), desk: d, notification: &d.slot.Packet.Notification,
	}
	return &d.call
}

// receive receives the next notification of a listener.
func (d *desk) receive(l *listener.Listener) (*call, error) {
	s := sourceOf(l)
	c := d.begin(s.attachment, l)
	d.slot.Expect(s.number)
	return c, l.Receive(c.notification)
}

// accept takes a notification that another program has received.
func (d *desk) accept(a *attachment, n RelayedNotification) *call {
	c := d.begin(a, n.Answers)
	*c.notification, c.end, c.doubted = *n.Notification, n.End, true
	return c
}

// handle answers the notification, exactly once, and records the call, unless the watchdog does. It has source ask
// for the next one as soon as the caller's memory is copied: a caller that holds up who reads that holds up its own
// container.
func (c *call) handle(source armer) {
	c.attachment.calls.Add(1)
	c.began = time.Now()
	if c.resumed.state == journal.Free {
		c.desk.slot.Received(c.began)
	}
	c.id.Store(c.desk.slot.ID())
	pause.At(pause.Received)
	c.desk.post.open(c, source)
	defer c.desk.slot.Clear()
	c.attachment.broker.watchdog.begin()
	defer c.arm()
	defer c.forget()
	defer c.survive()
	d := c.decide()
	outcome := c.answer(d)
	if !c.lost {
		d.by.count(&outcome)
		c.record(outcome, time.Since(c.began))
	}
}

// arm asks for the next call, if that is not done yet.
func (c *call) arm() {
	if !c.armed {
		c.armed = true
		c.attachment.broker.armNext(c.attachment, c.desk.post.takeUnarmed())
	}
}

// claim reports whether the call is still to be answered. The watchdog does not answer it any more.
func (c *call) claim() bool {
	c.lost = !c.desk.post.claim()
	return !c.lost
}

// decision is what the caller gets.
type decision struct {
	plugin   string       // that decided; empty: none did
	by       *boundPlugin // likewise
	response *wire.Response
	reason   audit.Reason
	added    *lane.Descriptor // by an ADDFD response
	err      error            // why a plugin failed, if it did: the response is then the failure verdict
	gone     bool             // nobody waits for an answer any more
	again    bool             // another call answers the notification
}

// decide finds what the caller gets. A call that no plugin takes is left to the kernel, as if it had not been
// intercepted.
func (c *call) decide() decision {
	if !c.findName() {
		return decision{response: continueResponse, reason: audit.Reason{Code: codeNotTaken}}
	}
	return c.route()
}

// locate decides on a call whose caller is outside the container, or gone. The peer that hands over a listener, or a
// thread, says of which container it is. So unless that is root's word on a listener, each caller's user namespace is
// compared with the container's. The namespace is the caller's if that still waits afterwards: it cannot change while
// it does. The container can hold up who looks (see capture.Since), so the watchdog answers for the plugin already.
func (c *call) locate(p *boundPlugin) (d decision, decided bool) {
	if !c.doubted {
		return decision{}, false
	}
	c.doubted = false
	if err := c.attachment.checkHangs(); err != nil {
		return failed(p, err), true
	}
	in, err := c.attachment.container.Includes(int(c.notification.TID))
	switch {
	case !c.waits():
		return decision{gone: true}, true
	case err != nil, !in: // an error says nothing of a caller that waits
		// The kernel does the whole call with the caller's own credentials, as without a filter: nothing is lent to it.
		return decision{response: continueResponse, reason: audit.Reason{Code: codeOutside}}, true
	}
	return decision{}, false
}

// findName names the syscall, and reports whether some plugin takes it.
func (c *call) findName() (taken bool) {
	n := c.notification
	c.name, taken = c.terms.name(n.Arch, n.NR, n.Args[0])
	if !taken {
		c.name = fmt.Sprintf("#%d", n.NR)
	}
	return taken
}

// route asks the plugins that take the call, one after the other, until one decides. If none does, the reason is the
// last one that a plugin gave.
func (c *call) route() decision {
	reason := audit.Reason{Code: codeNotTaken}
	for _, r := range c.terms.routes[c.name] {
		p := &c.terms.plugins[r.plugin]
		c.entrust(p)
		if d, decided := c.locate(p); decided {
			return d
		}
		switch r.admits(c.notification) {
		case wire.Compat_COMPAT_CONTINUE:
			continue
		case wire.Compat_COMPAT_REFUSE:
			return decision{plugin: p.binding.Plugin.Name(), response: errnoResponse(int32(unix.EPERM))}
		}
		if d, over := c.askAgain(p, r); over {
			return d
		}
		d := c.ask(p, r)
		if d.response.GetNext() && d.err == nil {
			p.countNext()
			reason = handedBack(reason, d.reason)
			continue
		}
		d.plugin, d.by = p.binding.Plugin.Name(), p
		return d
	}
	return decision{response: continueResponse, reason: reason}
}

// entrust begins the plugin's time. From now on the watchdog answers for the plugin.
func (c *call) entrust(p *boundPlugin) {
	c.asked = time.Now()
	c.allowed = c.timeout(p.binding.Deadline, c.asked)
	c.desk.post.ask(p, c.asked, c.allowed)
}

// ask lets one plugin decide, to which the call is entrusted. If the plugin fails, its failure verdict decides.
func (c *call) ask(p *boundPlugin, r route) decision {
	response, added, err := c.consult(p, r)
	if len(response.GetWrites()) > 0 {
		if err = c.attachment.checkHangs(); err != nil && added != nil {
			added.Close()
		}
	}
	switch {
	case err == nil:
		return decision{response: response, reason: reasonOf(p, response), added: added}
	case errors.Is(err, errAgain):
		return decision{again: true}
	case meansGone(err) && c.abandon():
		return decision{gone: true}
	case errors.Is(err, errRevoked), errors.Is(err, errWithheld): // which is not a failure
		return decision{response: silentResponse(p.binding.OnFailure), reason: failureReason(err)}
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %v: %w", c.allowed, err)
	}
	return failed(p, err)
}

// failed is what the caller gets where the plugin cannot decide.
func failed(p *boundPlugin, err error) decision {
	verdict := failureResponse(p.binding.OnFailure)
	return decision{plugin: p.binding.Plugin.Name(), by: p, response: verdict, reason: failureReason(err), err: err}
}

// meansGone reports whether an error means that the caller is gone. The plugin may be wrong, or lie: the kernel knows.
func meansGone(err error) bool {
	return errors.Is(err, lane.ErrGone) || errors.Is(err, notify.ErrGone) || errors.Is(err, errContainerGone)
}

// consult shows the call to a plugin and returns its response.
func (c *call) consult(p *boundPlugin, r route) (*wire.Response, *lane.Descriptor, error) {
	if err := c.checkAskable(p, r.syscall); err != nil {
		return nil, nil, err
	}
	if err := c.capture(r.syscall); err != nil {
		return nil, nil, err
	}
	if response, added, err := c.recall(); response != nil || err != nil {
		c.desk.dialogue.Captured.Close()
		return response, added, err
	}
	c.arm()
	c.stamp()
	c.desk.slot.Ask(r.plugin)
	return c.carry(p)
}

// checkAskable returns an error if the plugin cannot be asked.
func (c *call) checkAskable(p *boundPlugin, declared *wire.Syscall) error {
	switch {
	case c.attachment.ctx.Err() != nil:
		return context.Cause(c.attachment.ctx)
	case p.session == nil:
		return p.refused
	case c.notification.TID == 0:
		return errForeignPID
	case len(declared.GetReads()) > 0:
		return c.attachment.checkHangs()
	}
	return nil
}

// capture copies and opens what the plugin declared, of the caller and its memory. Nothing of it is looked at again:
// what is decided and done, by whomever, is decided and done with this.
func (c *call) capture(declared *wire.Syscall) error {
	c.declared = declared
	set := &c.desk.dialogue.Captured
	set.Close() // of a call that ended in a panic
	set.Exchanged = &c.attachment.exchanged
	for stay := c.stay(); ; stay = c.stay() {
		c.take(declared)
		// The thread's id may have been another thread's by then: not if the caller still waits.
		if len(declared.GetReads())+len(declared.GetCaptures()) == 0 || stay.Valid() {
			break
		}
		set.Close()
		if !c.returns() {
			return notify.ErrGone
		}
	}
	if err := capture.Err(set.Errno); err != nil {
		set.Close()
		return fmt.Errorf("%w: %w", errCapture, err)
	}
	return nil
}

// take copies and opens what is declared.
func (c *call) take(declared *wire.Syscall) {
	n := c.notification
	c.reads = c.desk.snapshot.Take(int(n.TID), declared.GetReads(), n.Arch, &n.Args)
	lane.CaptureDeclared(&c.desk.dialogue.Captured, int(n.TID), declared.GetCaptures(), &n.Args)
	pause.At(pause.Captured)
}

// carry carries the notification to the plugin and returns the response, if the plugin may answer so.
func (c *call) carry(p *boundPlugin) (*wire.Response, *lane.Descriptor, error) {
	defer c.desk.dialogue.Captured.Close()
	handed := time.Now()
	left := c.allowed - handed.Sub(c.asked)
	if left <= 0 {
		return nil, nil, context.DeadlineExceeded
	}
	c.kept = p.kept
	c.fillDialogue()
	pause.At(pause.Valid)
	response, added, err := p.session.Handle(c.attachment.ctx, &c.desk.dialogue, c, left, c.desk.cpu)
	took := time.Since(handed)
	c.inPlugin += took
	p.observe(took)
	if err == nil {
		err = checkResponse(c.notification.Arch, response, added)
	}
	if err != nil {
		return nil, nil, err
	}
	return response, added, nil
}

// timeout returns how long a plugin with this deadline may take from now on.
func (c *call) timeout(deadline time.Duration, now time.Time) time.Duration {
	if c.end.IsZero() {
		return deadline
	}
	return min(deadline, c.end.Sub(now))
}

// fillDialogue puts the notification into the message for the plugin.
func (c *call) fillDialogue() {
	n, message := c.notification, &c.desk.dialogue.Notification
	message.Id, message.Syscall, message.Arch, message.Nr, message.Tid = n.ID, c.name, n.Arch, n.NR, int32(n.TID)
	message.Args, message.Reads = n.Args[:], c.reads
	message.Again, message.ReceivedNs = c.resumed.again, 0
	if c.resumed.again || c.isChecked() {
		message.ReceivedNs = uint64(c.desk.slot.Since().UnixNano())
	}
}

// isChecked reports whether the plugin finds out, where it has the call again, whether it was done.
func (c *call) isChecked() bool { return c.declared.GetRepeat() == wire.Repeat_REPEAT_CHECK }

// stamp notes the time before which the call was not done. It reads the clock that the kernel stamps inodes with. That
// clock can be far behind others: a virtual machine may get no processor for a while. A call that is shown to a plugin
// again keeps the time that the journal has.
func (c *call) stamp() {
	if !c.resumed.again && c.isChecked() {
		c.desk.slot.Received(time.Unix(0, int64(linux.CoarseNow())))
	}
}

// record records the call.
func (c *call) record(outcome audit.Outcome, took time.Duration) {
	c.attachment.record(audit.Record{
		Container: &c.terms.about, Caller: c.witness.caller, Syscall: c.name, Declared: c.declared, Reads: c.reads,
		Notification: c.notification, Outcome: outcome, Duration: took, InPlugin: c.inPlugin,
	}, c.witness)
}

// record counts the call, writes the audit record, and shows it to the observer and the witnesses.
func (a *attachment) record(record audit.Record, w witness) {
	if record.Outcome.Err != nil {
		a.failures.Add(1)
	}
	a.count(&record)
	a.figures.count(&record)
	a.audit.Call(record)
	if a.broker.observe != nil {
		a.broker.observe(record)
	}
	a.show(&record, w)
}
