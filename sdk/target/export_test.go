package target

import (
	"context"
	"os"
	"time"

	"github.com/intercede/intercede/internal/capture"
)

// OpenAt is what OpenPath and OpenParent are made of.
func (t *Target) OpenAt(ctx context.Context, dir int, path string, flags int, access uint32) (*os.File, error) {
	return t.openAt(ctx, dir, path, flags, access)
}

// CaptureAll captures all that Start keeps.
func (t *Target) CaptureAll() error {
	in, err := t.openInside()
	if err != nil {
		return err
	}
	in.close()
	return nil
}

// ScanForTID is how a thread is found on kernels before 6.11.
func (t *Target) ScanForTID(tid int) (int, error) { return capture.Scan(t.tid, tid) }

// TranslateTID is the id of the thread that the target names so.
func (t *Target) TranslateTID(tid int) (int, error) {
	thread, err := t.Thread(tid)
	if err != nil {
		return 0, err
	}
	defer thread.Close()
	return thread.TID(), nil
}

// Raise has what is forked from now on taken for one of a process whose priority is raised, until the function is
// called.
func Raise() (undo func()) {
	before := raised
	raised = true
	return func() { raised = before }
}

// NewThread, UseThread and ActUntil are what package acting is for.
func NewThread() (*ownThread, error) { return newThread() }

func (t *Target) UseThread(th *ownThread) { t.own = th }

func (t *Target) ActUntil(end time.Time) { t.end = end }
