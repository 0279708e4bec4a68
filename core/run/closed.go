package run

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkClosed refuses directories of the host in which root of the container makes files as root of the host, and which
// users of the host can reach: the container could make them a set-user-ID program, a program with file capabilities, or
// a device node.
func (o *Options) checkClosed() error {
	mounts, err := parseMounts(nil, o.Mounts)
	if err != nil {
		return err
	}
	var dirs []string
	if !o.discards() {
		dirs = append(dirs, o.rootDir())
	}
	for _, m := range mounts {
		if m.IDMap && m.Set&unix.MOUNT_ATTR_RDONLY == 0 {
			dirs = append(dirs, m.Source)
		}
	}
	for _, dir := range dirs {
		closed, err := isClosed(dir)
		if err != nil {
			return err
		}
		if !closed {
			return fmt.Errorf("other users of this host can reach %s, where the container's root makes files that belong to root: make it or a directory above it root's alone (chown root, chmod go-x), or mount it with nosuid and nodev", dir)
		}
	}
	return nil
}

// isClosed reports whether nobody but root reaches a directory by its path, or nothing there has effect: its mount has
// nosuid, which counts for file capabilities too, and nodev.
func isClosed(dir string) (bool, error) {
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return false, err
	}
	var on unix.Statfs_t
	if err := unix.Statfs(path, &on); err != nil {
		return false, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	const without = unix.ST_NOSUID | unix.ST_NODEV
	if on.Flags&without == without {
		return true, nil
	}
	for {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return false, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isDir && st.Uid == 0 && st.Mode&0o001 == 0 && (st.Gid == 0 || st.Mode&0o010 == 0) {
			return true, nil
		}
		if path == "/" {
			return false, nil
		}
		path = filepath.Dir(path)
	}
}
