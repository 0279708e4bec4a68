package socket

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A broker that was killed can be there for long: a thread of it hangs in the kernel, in a filesystem that a container
// serves for example, and the process keeps its descriptors, and so its lock. It does nothing any more.

// takeFromDying removes the lock file whose lock a dying process holds, and reports whether it did. Brokers that do so
// take turns, so that none removes what another has made since.
func takeFromDying(path string, info fs.FileInfo) (bool, error) {
	holder, err := holderOf(info)
	if err != nil || holder == 0 || !isDying(fmt.Sprintf("/proc/%d", holder)) {
		return false, err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	defer folder.Close()
	if err := unix.Flock(int(folder.Fd()), unix.LOCK_EX); err != nil {
		return false, os.NewSyscallError("flock", err)
	}
	return true, removeIfSame(path, info)
}

// holderOf finds the process that holds a lock on the file, by proc_locks(5); 0: it is not there.
func holderOf(info fs.FileInfo) (pid int, err error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, nil
	}
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, err
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // 1: FLOCK ADVISORY WRITE PID DEVICE:INODE START END
		if len(fields) > 5 && fields[1] == "FLOCK" && fields[5] == file {
			return strconv.Atoi(fields[4])
		}
	}
	return 0, nil
}

// isDying reports whether all threads of a process, by its folder in /proc, have ended or are to end by SIGKILL, which
// none survives (proc_pid_status(5)).
func isDying(proc string) bool {
	threads, err := filepath.Glob(filepath.Join(proc, "task/*/status"))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err == nil && !hasEnded(string(text)) {
			return false
		}
	}
	return true
}

// hasEnded is isDying of one thread.
func hasEnded(status string) bool {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "State":
			if strings.HasPrefix(value, "Z") || strings.HasPrefix(value, "X") {
				return true
			}
		case "SigPnd":
			pending, err := strconv.ParseUint(value, 16, 64)
			return err == nil && pending&(1<<(unix.SIGKILL-1)) != 0
		}
	}
	return false
}
