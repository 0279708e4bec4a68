package sandbox

import (
	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// pluginOOMScoreAdj has the OOM killer choose a plugin before the broker, which starts it again.
const pluginOOMScoreAdj = 500

// beKilledEarlier sets the process's oom_score_adj, and what it can lower it to: 0, for the programs that plugins start
// for containers, and not what the broker may have. That is the last value that was set with CAP_SYS_RESOURCE
// (__set_oom_adj, fs/proc/base.c), so that the second one is set without.
func beKilledEarlier() error {
	if err := linux.SetOOMScoreAdj(0); err != nil {
		return err
	}
	sets, err := linux.ThreadCapabilities()
	if err != nil {
		return err
	}
	sets.Effective &^= 1 << unix.CAP_SYS_RESOURCE
	if err := linux.SetThreadCapabilities(sets); err != nil {
		return err
	}
	return linux.SetOOMScoreAdj(pluginOOMScoreAdj)
}
