package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/intercede/intercede/core/launcher"
)

// maxHangs is how many threads of the broker a container may hold up in reads and writes of its memory: then its calls
// with pointers get the failure verdict until one of them is back.
const maxHangs = 2

// errHang means that the kernel holds up a thread of the broker.
var errHang = errors.New("a read or write of the caller's memory hangs in the kernel")

// Quarantine is why calls of a container get the failure verdict at once.
type Quarantine struct {
	Plugin string    `json:"plugin,omitempty"` // empty: of all plugins, calls with pointers
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until what Reason says is over
}

// beginHang counts a thread that is held up, and logs it if the container is quarantined for it.
func (a *attachment) beginHang() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hangs.Add(1) != maxHangs {
		return
	}
	a.hangsSince = time.Now()
	a.broker.log.Warn().Str("container", a.container.ID).Str("reason", hangReason(maxHangs)).
		Msg("quarantined: the container's calls with pointers get the failure verdict")
}

// endHang counts a thread that is back.
func (a *attachment) endHang() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hangs.Add(-1) == maxHangs-1 {
		a.broker.log.Info().Str("container", a.container.ID).Msg("the quarantine is over: the container's calls with pointers are served")
	}
}

func hangReason(n int) string {
	return fmt.Sprintf("%d reads or writes of its memory hang in the kernel: a filesystem of its own may not answer", n)
}

// checkHangs returns an error if the container's memory must not be read.
func (a *attachment) checkHangs() error {
	if n := int(a.hangs.Load()); n >= maxHangs {
		return fmt.Errorf("%w: %s", launcher.ErrQuarantined, hangReason(n))
	}
	return nil
}

// quarantines lists why calls of the container get the failure verdict.
func (a *attachment) quarantines() (list []Quarantine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := int(a.hangs.Load()); n >= maxHangs {
		list = append(list, Quarantine{Reason: hangReason(n), Since: a.hangsSince})
	}
	for _, p := range a.bound() {
		if p.session == nil {
			continue
		}
		for _, q := range p.session.Quarantines() {
			list = append(list, Quarantine{Plugin: p.binding.Plugin.Name(), Reason: q.Reason, Since: q.Since, Until: q.Until})
		}
	}
	return list
}
