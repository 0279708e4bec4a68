package broker

import (
	"fmt"
	"runtime/debug"

	"github.com/intercede/intercede/core/audit"
)

// maxPanics is how many panics are logged in a second.
const maxPanics = 10

// survive is deferred by a call: a panic in it costs that call its answer, which is the failure verdict, and nothing
// else.
func (c *call) survive() {
	cause := recover()
	if cause == nil {
		return
	}
	b := c.attachment.broker
	c.attachment.failures.Add(1)
	if suppressed, ok := b.panics.Take(1); ok {
		b.log.Error().Str("container", c.attachment.container.ID).Str("syscall", c.name).Int("suppressed", suppressed).
			Str("panic", fmt.Sprint(cause)).Str("stack", string(debug.Stack())).Msg("panic: the call gets the failure verdict")
	}
	defer func() { recover() }() // of the same fault, in what answers
	if !c.claim() {
		return
	}
	verdict := continueResponse
	if p := c.desk.post.asked(); p != nil {
		verdict = failureResponse(p.binding.OnFailure)
	}
	c.send(verdict, nil, &audit.Outcome{}) // which finds nobody if the call was answered before the panic
}
