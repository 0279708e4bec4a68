package broker

import (
	"slices"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/pause"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// What a plugin may ask about its call while it handles it. Each answer is captured and then validated, as what the
// manifest declares.

// Capture implements lane.Caller. If the caller is gone, the errno is ESRCH.
func (c *call) Capture(question *wire.Capture) *capture.Set {
	for {
		stay := c.stay()
		set := c.captureAsked(question)
		pause.At(pause.Captured)
		if stay.Valid() || isOfHost(question) && c.Valid() {
			return set
		}
		set.Close()
		if !c.returns() {
			set.Errno = int32(unix.ESRCH)
			return set
		}
	}
}

// isOfHost reports whether all that is asked for is the broker's own.
func isOfHost(question *wire.Capture) bool {
	return !slices.ContainsFunc(question.GetWants(), func(w *wire.Want) bool {
		return w.GetPart() != wire.Part_PART_HOST_MOUNTINFO && w.GetPart() != wire.Part_PART_NODE_TMPFS
	})
}

// captureAsked captures what is asked for, of the caller or the thread that it names.
func (c *call) captureAsked(question *wire.Capture) *capture.Set {
	set := &capture.Set{Exchanged: &c.attachment.exchanged}
	lane.Capture(set, int(c.notification.TID), question)
	return set
}

// ReadMemory implements lane.Caller. If the caller is gone, the error is ESRCH.
func (c *call) ReadMemory(question *wire.ReadMemory) *wire.Memory {
	if c.attachment.checkHangs() != nil {
		return &wire.Memory{Errno: int32(unix.ESRCH)} // the plugin gives the call up, which gets the failure verdict
	}
	for {
		stay := c.stay()
		copied := wire.Ask(int(c.notification.TID), question)
		if stay.Valid() {
			return copied
		}
		if !c.returns() {
			return &wire.Memory{Errno: int32(unix.ESRCH)}
		}
	}
}

// Keep implements lane.Caller.
func (c *call) Keep(question *wire.Keep) *wire.Kept { return c.kept.Keep(question) }
