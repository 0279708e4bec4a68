package mount

import (
	"testing"
	"time"
)

// TestContextsEnd lets a superblock go when its context is forgotten.
func TestContextsEnd(t *testing.T) {
	var c contexts
	for range 2 * maxContexts {
		c.add(newContext(-1, nil))
	}
	if len(c.open) != maxContexts {
		t.Errorf("%d contexts are kept", len(c.open))
	}
	one := c.open[0]
	c.forgetAll()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		one.turn <- struct{}{}
		phase := one.phase
		<-one.turn
		if phase == closed || time.Now().After(deadline) {
			break
		}
	}
	if len(c.open) != 0 || one.phase != closed {
		t.Errorf("%d contexts are kept, phase %d", len(c.open), one.phase)
	}
}
