package limit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MakeLocked makes a cgroup whose name begins with the prefix. Until Close, or the end of this process, RemoveStale
// leaves it alone. The error wraps unix.EOPNOTSUPP where no process could be in it: below a cgroup of version 2 that
// has given its children controllers although it has processes.
func MakeLocked(parent, prefix string) (*Group, error) {
	for {
		dir, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return nil, fmt.Errorf("make a cgroup: %w", err)
		}
		lock, err := lockFolder(dir, 0)
		if err == nil && isInvalid(dir) {
			lock.Close()
			err = fmt.Errorf("a cgroup below %s: %w", parent, unix.EOPNOTSUPP)
		}
		if err == nil {
			return &Group{Dir: dir, lock: lock}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) { // or else a RemoveStale of another process came between
			return nil, errors.Join(err, unix.Rmdir(dir))
		}
	}
}

func isInvalid(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.type"))
	return err == nil && strings.TrimSpace(string(text)) == "domain invalid"
}

// RemoveStale removes the cgroups that MakeLocked made with the prefix in processes that are gone, and kills what they
// have left in them. What takes longer to end is left to the next time.
func RemoveStale(parent, prefix string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, dir := range dirs {
		lock, err := lockFolder(dir, unix.LOCK_NB)
		if err != nil {
			continue
		}
		stale := &Group{Dir: dir, lock: lock}
		stale.Kill()
		unix.Rmdir(dir)
		stale.Close()
	}
}

// lockFolder opens and locks the folder. The lock ends with the descriptor. The error wraps fs.ErrNotExist if the
// folder was removed.
func lockFolder(dir string, flags int) (*os.File, error) {
	folder, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX|flags); err != nil {
		folder.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	if _, err := os.Stat(dir); err != nil {
		folder.Close()
		return nil, err
	}
	return folder, nil
}

// Fd is a descriptor of the cgroup, which MakeLocked made, for clone3(2).
func (g *Group) Fd() int { return int(g.lock.Fd()) }

// Close lets others remove the cgroup.
func (g *Group) Close() error { return g.lock.Close() }
