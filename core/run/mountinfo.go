package run

import (
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// hostMounts returns the mounts that this process sees, in the order of mounting.
func hostMounts() ([]*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("read the host's mounts: %w", err)
	}
	return mounts, nil
}

// within reports whether path is dir or below it; both are clean and absolute.
func within(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir+"/")
}

// mountOf returns the mount that path, absolute and without symlinks, is on; nil if none of these.
func mountOf(mounts []*mountinfo.Info, path string) (found *mountinfo.Info) {
	for _, m := range mounts {
		if within(path, m.Mountpoint) && (found == nil || len(m.Mountpoint) >= len(found.Mountpoint)) {
			found = m
		}
	}
	return found
}
