package container

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/intercede/intercede/core/internal/testcaller"
)

func TestEnd(t *testing.T) {
	caller := testcaller.Start(t, 0)
	c := inspectContainer(t, Claim{PID: caller.PID})
	end, err := c.WatchEnd()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		end.Wait(t.Context())
		close(ended)
	}()
	select {
	case <-ended:
		t.Error("it ended before it did")
	default:
	}
	caller.Kill()
	<-ended
	if _, err := c.WatchEnd(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("after the end: %v", err)
	}
}

func TestEndIsNotAwaitedForEver(t *testing.T) {
	c := inspectContainer(t, Claim{PID: testcaller.Start(t, 0).PID})
	end, err := c.WatchEnd()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	end.Wait(ctx)
}

// A process of another container that has got the pid is not watched.
func TestEndOfAnother(t *testing.T) {
	c := inspectContainer(t, Claim{PID: testcaller.Start(t, 0).PID})
	c.InitPID = testcaller.Start(t, 0).PID
	if _, err := c.WatchEnd(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("got %v", err)
	}
}
