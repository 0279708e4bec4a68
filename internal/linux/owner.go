package linux

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links the kernel follows (MAXSYMLINKS, include/linux/namei.h).
const maxLinks = 40

// CheckFolders returns an error unless every folder on the way to path, those that hold its symbolic links included, is
// one in which only root and this process's user can replace anything.
func CheckFolders(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	at, rest := "/", components(path)
	for links := 0; len(rest) > 0; {
		if err := checkFolder(at); err != nil {
			return err
		}
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		text, err := os.Readlink(next)
		if err != nil { // not a link
			at = next
			continue
		}
		if links++; links > maxLinks {
			return &os.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		}
		if filepath.IsAbs(text) {
			at = "/"
		}
		rest = append(components(text), rest...)
	}
	return nil
}

func components(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

func checkFolder(dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	if err := checkOwner(fd, true); err != nil {
		return fmt.Errorf("folder %s: %w", dir, err)
	}
	return nil
}

// CheckOwner returns an error unless the open file is one that only root and this process's user can change.
func CheckOwner(fd uintptr) error { return checkOwner(int(fd), false) }

// overflowID is the owner that a user namespace shows of what belongs to nobody in it (DEFAULT_OVERFLOWUID,
// include/linux/highuid.h).
const overflowID = 65534

// InHostUserNamespace reports whether this process is in the host's user namespace: every ID is mapped to itself there
// (user_namespaces(7)).
func InHostUserNamespace() (bool, error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	return strings.Join(strings.Fields(string(text)), " ") == "0 0 4294967295", err
}

// IsOwner reports whether a user is root or this process's user. In the user namespace of a rootless engine the host's
// root, whose / and /etc are, has no ID: what belongs to nobody there counts as root's, since a process there has no
// power over the host.
func IsOwner(uid uint32) bool {
	if uid == overflowID {
		host, err := InHostUserNamespace()
		return err == nil && !host
	}
	return uid == 0 || int(uid) == os.Geteuid()
}

// checkOwner refuses what others may change. In a sticky folder others cannot replace a file that is not theirs.
func checkOwner(fd int, folder bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if !IsOwner(st.Uid) {
		return fmt.Errorf("owned by user %d, who could change it: want root or user %d", st.Uid, os.Geteuid())
	}
	others := st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && st.Gid != 0
	if others && !(folder && st.Mode&unix.S_ISVTX != 0) {
		return fmt.Errorf("mode %#o lets others change it: chmod go-w", st.Mode&0o7777)
	}
	return nil
}
