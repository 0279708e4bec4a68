// Package loglimit bounds what is logged because somebody else wants it so: a container, a plugin, a peer.
//
// zerolog's BurstSampler is not used: it does not tell how many records it has dropped, and counts records of all sizes
// alike.
package loglimit

import (
	"sync"
	"time"
)

// Period is the time in which a Limit lets so much through.
const Period = time.Second

// Limit lets records through, and counts the others. Its methods may be called concurrently.
type Limit struct {
	most int

	mu         sync.Mutex
	begin      time.Time // of the period
	used       int
	suppressed int
}

// New makes a Limit of so many units in each period: of records, or of bytes.
func New(most int) *Limit { return &Limit{most: most} }

// Miss counts records that Take let through, or counted, and that were not logged all the same.
func (l *Limit) Miss(records int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suppressed += records
}

// Take reports whether a record of so many units may be logged, and then how many were suppressed since the one before
// it. A record that is larger than the limit may be the only one of its period.
func (l *Limit) Take(units int) (suppressed int, ok bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.begin) >= Period {
		l.begin, l.used = now, 0
	}
	if l.used > 0 && l.used+units > l.most {
		l.suppressed++
		return 0, false
	}
	l.used += units
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}
