package notify

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Find finds the listener of a notification that another process has received, and whose caller waits, among the
// descriptors of the process that owns it. IDs are random, so that the listener which knows this one is the right one.
// It belongs to the caller. The error wraps ErrGone if there is none.
func Find(owner int, id uint64) (FD, error) {
	pidfd, err := unix.PidfdOpen(owner, 0)
	if err != nil {
		return -1, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	folder := fmt.Sprintf("/proc/%d/fd", owner)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return -1, err
	}
	for _, entry := range entries {
		// Others are not copied: closing the copy of a file could wait for its filesystem.
		if link, _ := os.Readlink(filepath.Join(folder, entry.Name())); link != kind {
			continue
		}
		number, _ := strconv.Atoi(entry.Name())
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			continue // it was closed meanwhile
		}
		l := FD(fd)
		if l.RequireListener() == nil && l.Valid(id) {
			return l, nil
		}
		unix.Close(fd)
	}
	return -1, fmt.Errorf("notification %d: nobody waits for its answer: %w", id, ErrGone)
}
