package bench

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/intercede/intercede/core/container"
	"github.com/intercede/intercede/internal/notify"
)

// bare answers in the shortest way there is: one thread receives each notification and lets the kernel go on.
type bare struct{}

// Attach starts the thread. It ends with the container; before Linux 6.11, where receiving from a listener that has no
// task any more blocks, only with this process.
func (bare) Attach(_ context.Context, listener *os.File, _ container.Claim) error {
	go answer(listener)
	return nil
}

// Close does nothing.
func (bare) Close() {}

func answer(listener *os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer listener.Close()
	fd := notify.FD(listener.Fd())
	var n notify.Notification
	for {
		err := fd.Receive(&n)
		if err == nil {
			err = fd.SendContinue(n.ID)
		}
		if err != nil && !goesOn(fd, err) {
			return
		}
	}
}

// goesOn reports whether only a caller is gone, not the whole container.
func goesOn(fd notify.FD, err error) bool {
	_, hangup, pollErr := fd.Poll(0)
	return errors.Is(err, notify.ErrGone) && pollErr == nil && !hangup
}
