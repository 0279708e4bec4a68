package linux

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// IsStopped reports whether a process is stopped (SIGSTOP, or a debugger): no thread of it executes a program, whatever
// the load of the machine, until it is continued. A thread that waits in the kernel and cannot be interrupted stops when
// that is over, without executing anything before (proc_pid_stat(5), field 3).
func IsStopped(pid int) bool {
	process := fmt.Sprintf("/proc/%d/", pid)
	if state := stateOf(process + "stat"); state != 'T' && state != 't' {
		return false // the first thread stands for all, so that looking costs little
	}
	threads, err := filepath.Glob(process + "task/*/stat")
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, name := range threads {
		switch stateOf(name) {
		case 'T', 't', 'D', 'Z', 'X', 0: // 0: it has ended
		default:
			return false
		}
	}
	return true
}

// stateOf is the state that a stat file says; 0 if there is none.
func stateOf(name string) byte {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	// The name before it is in parentheses and may have some itself.
	after := text[bytes.LastIndexByte(text, ')')+1:]
	if len(after) < 2 {
		return 0
	}
	return after[1]
}
