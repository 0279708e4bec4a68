package keep

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Variables of a process that is started with descriptors (sd_listen_fds(3)).
const (
	listenPID   = "LISTEN_PID"
	listenFDs   = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"
)

// unknownName is the name of a descriptor that came without one, as sd_listen_fds_with_names(3) has it.
const unknownName = "unknown"

// Inherited returns the descriptors that this process was started with: the sockets of .socket units and what a
// broker before it has put into the store. They are close-on-exec and the caller's to close. There are none where the
// variables of the environment are missing, or are another process's. It unsets them, so that nobody takes the
// descriptors twice.
//
// It is called before the process opens files of its own. The error names a variable that is not as sd_listen_fds(3)
// says, or a descriptor that is not open; there are no descriptors with it.
func Inherited() ([]Descriptor, error) {
	count, names, err := readListenVariables()
	for _, variable := range []string{listenPID, listenFDs, listenNames} {
		os.Unsetenv(variable)
	}
	if err != nil {
		return nil, err
	}
	descriptors := make([]Descriptor, count)
	for i := range count {
		fd := firstDescriptor + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			closeAll(descriptors[:i])
			return nil, fmt.Errorf("%s=%d, but descriptor %d cannot be used: fcntl: %w", listenFDs, count, fd, err)
		}
		descriptors[i] = Descriptor{Name: names[i], File: os.NewFile(uintptr(fd), names[i])}
	}
	return descriptors, nil
}

// readListenVariables returns how many descriptors this process was started with, and a name for each.
func readListenVariables() (count int, names []string, err error) {
	pid, text := os.Getenv(listenPID), os.Getenv(listenFDs)
	if pid == "" || text == "" {
		return 0, nil, nil
	}
	if owner, err := strconv.Atoi(pid); err != nil {
		return 0, nil, fmt.Errorf("%s=%.100q: want a process ID", listenPID, pid)
	} else if owner != os.Getpid() {
		return 0, nil, nil
	}
	count, err = strconv.Atoi(text)
	if err != nil || count < 0 || count > maxDescriptors {
		return 0, nil, fmt.Errorf("%s=%.100q: want a number from 0 to %d", listenFDs, text, maxDescriptors)
	}
	names, err = splitNames(os.Getenv(listenNames), count)
	return count, names, err
}

// maxDescriptors is more than a process may have open by default (fs.nr_open, proc_sys_fs(5)).
const maxDescriptors = 1 << 20

// splitNames returns count names.
func splitNames(text string, count int) ([]string, error) {
	if text == "" {
		names := make([]string, count)
		for i := range names {
			names[i] = unknownName
		}
		return names, nil
	}
	names := strings.Split(text, ":")
	if len(names) != count {
		return nil, fmt.Errorf("%s has %d names for %d descriptors", listenNames, len(names), count)
	}
	return names, nil
}
