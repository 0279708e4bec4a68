package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// openPath opens (O_PATH) what the caller names, as it would: by its ids, or else by its own power and through the
// links of procfs.
func openPath(ctx context.Context, caller *target.Target, path string) (*os.File, error) {
	return openPathAt(ctx, caller, unix.AT_FDCWD, path, true)
}

// openPathAt is openPath from a directory.
func openPathAt(ctx context.Context, caller *target.Target, dir int, path string, follow bool) (*os.File, error) {
	var file *os.File
	var refused error
	err := caller.Do(0, func() error {
		file, refused = target.OpenPathHere(dir, path, follow)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case refused == nil:
		return file, nil
	case !target.MayNeedPower(refused):
		return nil, refuse(refused)
	}
	file, err = caller.OpenPath(ctx, dir, path, follow)
	return file, refuse(err)
}

// mountID is the id of the mount that an open file is on (proc_pid_fdinfo(5)), without asking its filesystem.
func mountID(fd int) (uint64, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(info)) {
		var id uint64
		if n, _ := fmt.Sscanf(line, "mnt_id: %d", &id); n == 1 {
			return id, nil
		}
	}
	return 0, errors.New("fdinfo without a line mnt_id")
}
