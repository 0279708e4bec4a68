package target

import (
	"time"

	"github.com/intercede/intercede/internal/capture"
	"github.com/intercede/intercede/sdk/internal/acting"
)

func init() {
	acting.NewTarget = func(c acting.Call) (any, error) {
		t := newTarget(c.TID, c.Source)
		t.own, _ = c.Thread.(*ownThread)
		t.end = c.End
		if c.Captured == nil {
			return t, nil
		}
		if _, err := t.adopt(c.Captured, c.Descriptors); err != nil {
			t.Close()
			return nil, err
		}
		return t, nil
	}
	acting.NewThread = func() (acting.Thread, error) {
		th, err := newThread()
		if err != nil {
			return nil, err
		}
		return th, nil
	}
	acting.AwaitCopies = awaitCopies
	acting.Alternate = func() { turns.alternate(time.Now()) }
}

func newTarget(tid int, source capture.Source) *Target { return &Target{tid: tid, source: source} }
