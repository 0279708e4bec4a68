package launcher

import (
	"path/filepath"
	"time"
)

// SettledAfter is how long a program must not have been changed.
const SettledAfter = settledAfter

// Files are the paths of what is kept.
func (k KnownManifests) Files() []string {
	paths, _ := filepath.Glob(filepath.Join(k.folder, "*.json"))
	return paths
}

// SetSlowAfter changes when a start counts as slow, and returns what undoes that.
func SetSlowAfter(d time.Duration) (undo func()) {
	before := slowAfter
	slowAfter = d
	return func() { slowAfter = before }
}
