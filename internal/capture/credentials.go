package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// addCredentials captures the thread's credentials, with the identity of its user namespace.
func (s *Set) addCredentials(tid int) {
	status, err := s.readStatus(tid)
	if err == nil {
		err = ParseStatus(status, &s.credentials)
	}
	if err == nil {
		err = identifyUserNamespace(tid, &s.credentials)
	}
	switch {
	case errors.Is(err, os.ErrProcessDone), errors.Is(err, unix.ENOENT):
		s.Errno = int32(unix.ESRCH)
	case err != nil:
		s.Errno = int32(toErrno(err))
	default:
		s.Captured.Credentials = &s.credentials
	}
}

// statusSize is more than most status files have, in bytes.
const statusSize = 2048

// readStatus reads /proc/TID/status, which is one record of a seq_file (fs/seq_file.c), of which a read gives as much
// as there is room for.
func (s *Set) readStatus(tid int) ([]byte, error) {
	fd, err := unix.Open(procPath(tid, "status"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if s.status == nil {
		s.status = make([]byte, 0, statusSize)
	}
	for text := s.status[:0]; ; {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil, err
		}
		if text = text[:len(text)+n]; len(text) < cap(text) {
			return text, nil
		}
		text = slices.Grow(text, cap(text))
	}
}

func identifyUserNamespace(tid int, c *Credentials) error {
	id, err := StatNamespace(procPath(tid, "ns/user"))
	c.UserNamespaceDev, c.UserNamespaceIno = id.Dev, id.Ino
	return err
}

// ParseStatus reads the text of /proc/TID/status into c, whose slices are used again. The thread chooses the Name line,
// in which the kernel escapes newlines. The error wraps os.ErrProcessDone if the thread has exited.
func ParseStatus(status []byte, c *Credentials) error {
	c.Uids, c.Gids, c.Groups, c.Tids, c.Tgids = c.Uids[:0], c.Gids[:0], c.Groups[:0], c.Tids[:0], c.Tgids[:0]
	var seen statusLines
	for len(status) > 0 && seen != allStatusLines {
		var line []byte
		line, status, _ = bytes.Cut(status, newline)
		key, rest, _ := bytes.Cut(line, colon)
		found, err := setLine(c, key, rest)
		if err == nil && seen&found != 0 {
			err = errors.New("the line is there twice")
		}
		if err != nil {
			return fmt.Errorf("status of a thread: line %q: %w", line, err)
		}
		seen |= found
	}
	// A thread that has exited has no umask any more, though it may still be waited for.
	if seen&lineUmask == 0 {
		return fmt.Errorf("status of a thread: no line Umask: %w", os.ErrProcessDone)
	}
	if seen != allStatusLines || len(c.Tids) == 0 || len(c.Tgids) == 0 {
		return errors.New("status of a thread: a line is missing, or empty")
	}
	return nil
}

var newline, colon = []byte("\n"), []byte(":")

// statusLines is a set of the lines that credentials need.
type statusLines uint

const (
	lineUmask statusLines = 1 << iota
	lineTGID
	lineUIDs
	lineGIDs
	lineGroups
	lineTGIDs
	lineTIDs
	linePermitted
	lineEffective
	allStatusLines = 1<<iota - 1
)

// setLine sets what the line of this key says; 0: nothing that is wanted.
func setLine(c *Credentials, key, rest []byte) (statusLines, error) {
	switch string(key) {
	case "Umask":
		umask, err := parseNumber(rest, 8)
		c.Umask = uint32(umask)
		return lineUmask, err
	case "Tgid":
		tgid, err := parseNumber(rest, 10)
		c.Tgid = int32(tgid)
		return lineTGID, err
	case "Uid":
		return lineUIDs, parseIDs(rest, &c.Uids)
	case "Gid":
		return lineGIDs, parseIDs(rest, &c.Gids)
	case "Groups":
		return lineGroups, parseNumbers(rest, &c.Groups)
	case "NStgid":
		return lineTGIDs, parseNumbers(rest, &c.Tgids)
	case "NSpid":
		return lineTIDs, parseNumbers(rest, &c.Tids)
	case "CapPrm":
		set, err := parseNumber(rest, 16)
		c.Permitted = set
		return linePermitted, err
	case "CapEff":
		set, err := parseNumber(rest, 16)
		c.Effective = set
		return lineEffective, err
	default:
		return 0, nil
	}
}

func parseNumber(text []byte, base int) (uint64, error) {
	return strconv.ParseUint(string(bytes.TrimSpace(text)), base, 64)
}

func parseNumbers[T int32 | uint32](text []byte, numbers *[]T) error {
	for field := range bytes.FieldsSeq(text) {
		n, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return err
		}
		*numbers = append(*numbers, T(n))
	}
	return nil
}

func parseIDs(text []byte, ids *[]uint32) error {
	if err := parseNumbers(text, ids); err != nil {
		return err
	}
	if len(*ids) != 4 {
		return errors.New("want four numbers")
	}
	return nil
}
