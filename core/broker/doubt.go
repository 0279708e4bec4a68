package broker

import (
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/wire"
)

// An answer can be lost although the kernel has taken it, where a signal comes at the very moment: about once in
// 1,000 signals that come in the midst of calls. notify.FD.SendValueDoubting says why, and when it may be so. So a
// caller that does not sleep, as one that a signal has woken up, is not answered before it does, or has left.
//
// Should the call then come again at once, it is done again, since it may also be another one. But if that gives an
// errno, as for what is done already, the caller gets the doubtful answer. What is wrong then is the rare program that
// had its answer, and makes the call again to get that errno.

// doubtTime is how long a doubtful answer is kept: as long as a signal's handler may take.
const doubtTime = 100 * time.Millisecond

// sendValue answers the call, and looks whether the answer is lost if the call must not be done twice. The monitor of
// LXC asks whether the caller waits before it answers, and does not tell what came of that: it is not left to it.
func (c *call) sendValue(id uint64, value int64) error {
	if !c.canBeLost() {
		return c.answers.SendValue(id, value)
	}
	left, err := c.answers.SendValueDoubting(id, value)
	c.doubtful = err == nil && (c.runs || left)
	return err
}

// canBeLost reports whether the answer may be lost, and the call must not be done twice.
func (c *call) canBeLost() bool {
	relayed := !c.end.IsZero()
	return c.known && c.declared.GetRepeat() != wire.Repeat_REPEAT_SAFE && (relayed || c.attachment.again.interrupted.Load())
}

// awaitSleep waits until the caller sleeps in its call, or has left it, if an answer that it does not see would be
// lost. The container can hold up who looks at its threads (see capture.Since). So it is called before claim: until
// then the watchdog answers.
func (c *call) awaitSleep(response *wire.Response) {
	if _, ok := response.GetKind().(*wire.Response_Value); !ok || !c.canBeLost() {
		return
	}
	caller := capture.OpenSleeper(int(c.notification.TID))
	defer caller.Close()
	for end := time.Now().Add(awakeTime); ; time.Sleep(awakeInterval) {
		over := time.Now().After(end) // before the look: this thread may get no processor either
		switch {
		case !c.waits() || caller.Sleeps():
			return
		case over:
			c.runs = true
			return
		}
	}
}

const (
	// awakeTime is longer than callers take to go to sleep, or to leave their call, unless they get no processor.
	awakeTime     = 2 * time.Millisecond
	awakeInterval = 50 * time.Microsecond
)

// keepDoubtful keeps an answer that may be lost.
func (c *call) keepDoubtful(response *wire.Response) {
	c.keepUntil(&keptAnswer{response: response, doubtful: true, until: time.Now().Add(doubtTime), looked: true})
}

// settleDoubt returns what the caller gets: the decision's response, or the doubtful answer of the call before.
func (c *call) settleDoubt(d decision) *wire.Response {
	if c.doubt != nil && d.err == nil && d.response.GetErrno() != 0 {
		return c.doubt
	}
	return d.response
}
