package demo

import "fmt"

// binarySize shows bytes as "64.0 MiB".
func binarySize(bytes uint64) string {
	size, unit := float64(bytes), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if size < 1024 {
			break
		}
		size, unit = size/1024, larger
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}

// microseconds shows tenths only where they matter.
func microseconds(µs float64) string {
	if µs < 10 {
		return fmt.Sprintf("%.1f", µs)
	}
	return fmt.Sprintf("%.0f", µs)
}
