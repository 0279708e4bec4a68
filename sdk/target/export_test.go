package target

import (
	"context"
	"os"
)

// OpenAt is what OpenPath and OpenParent are made of.
func (t *Target) OpenAt(ctx context.Context, dir int, path string, flags int, access uint32) (*os.File, error) {
	return t.openAt(ctx, dir, path, flags, access)
}

// ScanForTID is what TranslateTID does on kernels before 6.11.
func (t *Target) ScanForTID(tid int) (int, error) { return t.scanForTID(tid) }

// Raise has what is forked from now on taken for one of a process whose priority is raised, until the function is called.
func Raise() (undo func()) {
	before := raised
	raised = true
	return func() { raised = before }
}

// ParseNSpid is for its fuzzer.
var ParseNSpid = parseNSpid
