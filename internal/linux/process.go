package linux

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// IsStopped reports whether a process is stopped (SIGSTOP, or a debugger): no thread of it executes a program, whatever
// the load of the machine, until it is continued. A thread that waits in the kernel and cannot be interrupted stops
// when that is over, without executing anything before (proc_pid_stat(5), field 3).
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

// IsExiting reports whether the first thread of a process is ending, or has ended. Of a process that was killed, or has
// called exit_group(2), each thread is before the first of its descriptors is closed (PF_EXITING, do_exit,
// kernel/exit.c).
func IsExiting(pid int) bool {
	const flagsField, exiting = 6, 0x4 // include/linux/sched.h
	fields := statOf(fmt.Sprintf("/proc/%d/stat", pid))
	if len(fields) <= flagsField {
		return true
	}
	flags, err := strconv.ParseUint(string(fields[flagsField]), 10, 64)
	return err == nil && flags&exiting != 0
}

// stateOf is the state that a stat file says; 0 if there is none.
func stateOf(name string) byte {
	fields := statOf(name)
	if len(fields) == 0 {
		return 0
	}
	return fields[0][0]
}

// statOf are the fields of a stat file from the state on; none if there is no such file.
func statOf(name string) [][]byte {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	// The name before them is in parentheses and may have some itself.
	return bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
}
