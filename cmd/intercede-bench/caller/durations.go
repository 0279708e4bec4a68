package caller

import (
	"math"
	"slices"
	"time"
)

// Durations are how long calls took.
type Durations []time.Duration

// Percentile is the smallest duration that p percent of all do not exceed (the nearest rank); 0 where there are none.
func (d Durations) Percentile(p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Microseconds is a duration with the three decimals that the clock has.
func Microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
