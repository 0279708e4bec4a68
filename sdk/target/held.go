package target

import (
	"errors"
	"fmt"

	"github.com/intercede/intercede/internal/capture"
	"golang.org/x/sys/unix"
)

// held is the source of a thread of which there is a pidfd, and no way to anything else of it.
type held struct {
	target *Target
}

var errNoMore = errors.New("no more is captured of a thread that the caller named")

func (h held) Capture([]*capture.Want, int) (*capture.Captured, []int, error) {
	return nil, nil, errNoMore
}

func (h held) ReadMemory(uint64, int, bool) ([]byte, unix.Errno, error) { return nil, 0, errNoMore }

// Alive asks the pidfd. A zombie still has its number.
func (h held) Alive() error {
	pidfd := h.target.find(capture.PartPidfd, 0)
	if pidfd == nil {
		return fmt.Errorf("thread %d: its pidfd is closed", h.target.tid)
	}
	if err := unix.PidfdSendSignal(pidfd.fd, 0, nil, 0); err != nil && err != unix.EPERM {
		return h.target.error(capture.ProcessError(err))
	}
	return nil
}

func (h held) Close() {}
