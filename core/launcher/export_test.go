package launcher

import "time"

// SetSlowAfter changes when a start counts as slow, and returns what undoes that.
func SetSlowAfter(d time.Duration) (undo func()) {
	before := slowAfter
	slowAfter = d
	return func() { slowAfter = before }
}
