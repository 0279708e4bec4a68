package linux

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// oomScoreAdj is where the OOM killer's order is changed for this process and those that it forks, from -1000, never,
// to 1000, first (proc_pid_oom_score_adj(5)).
const oomScoreAdj = "/proc/self/oom_score_adj"

// OOMScoreAdj reads the process's oom_score_adj.
func OOMScoreAdj() (int, error) {
	text, err := os.ReadFile(oomScoreAdj)
	if err != nil {
		return 0, err
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", oomScoreAdj, err)
	}
	return score, nil
}

// SetOOMScoreAdj sets the process's oom_score_adj. It does nothing, without an error, where the process may not:
// without CAP_SYS_RESOURCE it may lower the value to the last that was set with it, no further.
func SetOOMScoreAdj(score int) error {
	err := os.WriteFile(oomScoreAdj, []byte(strconv.Itoa(score)), 0)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
