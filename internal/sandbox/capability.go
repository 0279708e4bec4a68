package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
)

// parseCapabilities finds capabilities by their names, "CAP_MKNOD".
func parseCapabilities(names []string) ([]capability.Cap, error) {
	known := map[string]capability.Cap{}
	for _, c := range capability.ListKnown() {
		known["CAP_"+strings.ToUpper(c.String())] = c
	}
	var found []capability.Cap
	for _, name := range names {
		c, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("capability %q: there is none of that name", name)
		}
		found = append(found, c)
	}
	return found, nil
}

// dropBoundingSet leaves what the calling thread executes no more than these. The library's own way to set the bounding
// set leaves it as it is, without an error, where CAP_SETPCAP is missing.
func dropBoundingSet(keep []capability.Cap) error {
	last, err := capability.LastCap()
	if err != nil {
		return fmt.Errorf("the kernel's last capability: %w", err)
	}
	for c := capability.Cap(0); c <= last; c++ {
		if slices.Contains(keep, c) {
			continue
		}
		if err := capability.DropBound(c); err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", c, err)
		}
	}
	return nil
}

// keepCapabilities leaves the calling thread these alone, and lets them survive the exec by the ambient set.
func keepCapabilities(keep []capability.Cap) error {
	thread, err := capability.NewPid2(0)
	if err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	thread.Set(capability.CAPS, keep...)
	if err := thread.Apply(capability.CAPS); err != nil {
		return fmt.Errorf("capset: %w: does the broker itself have them?", err)
	}
	if err := capability.ResetAmbient(); err != nil {
		return fmt.Errorf("clear the ambient capabilities: %w", err)
	}
	if err := capability.SetAmbient(true, keep...); err != nil {
		return fmt.Errorf("raise the ambient capabilities: %w", err)
	}
	return nil
}
