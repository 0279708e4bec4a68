package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Credentials are the thread's, from /proc/TID/status (proc_pid_status(5)). Ids are those of this process's user
// namespace.
type Credentials struct {
	TGID   int
	UIDs   IDs
	GIDs   IDs
	Groups []uint32
	Umask  uint32
	// PIDs are the thread's ids in each pid namespace from this process's (the first) to its own (the last).
	PIDs []int
	// TGIDs are those of its group leader.
	TGIDs     []int
	Permitted Capabilities
	Effective Capabilities // in the user namespace of the thread
}

// IDs are a thread's four user or group ids (credentials(7)).
type IDs struct {
	Real, Effective, Saved, Filesystem uint32
}

// Credentials reads the thread's credentials, once. It waits in a system call, and does not change them meanwhile.
func (t *Target) Credentials() (*Credentials, error) {
	t.credentialsOnce.Do(func() {
		t.credentials, t.credentialsErr = readCredentials(t.tid)
		if t.credentialsErr == nil {
			t.credentialsErr = t.endRead()
		}
	})
	return &t.credentials, t.credentialsErr
}

// readProcFile reads a file of /proc/TID, its status for example, into buf, or a larger copy. It is one record of a
// seq_file (fs/seq_file.c), of which a read gives as much as there is room for.
func readProcFile(path string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for text := buf[:0]; ; {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if text = text[:len(text)+n]; len(text) < cap(text) {
			return text, nil
		}
		text = slices.Grow(text, cap(text))
	}
}

// statusBuffers are longer than most status files.
var statusBuffers = sync.Pool{New: func() any { return new([2048]byte) }}

func readCredentials(tid int) (Credentials, error) {
	path := "/proc/" + strconv.Itoa(tid) + "/status"
	buf := statusBuffers.Get().(*[2048]byte)
	defer statusBuffers.Put(buf)
	status, err := readProcFile(path, buf[:])
	if err != nil {
		return Credentials{}, processError(err)
	}
	credentials, err := parseStatus(status)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	return credentials, nil
}

// parseStatus reads the text of /proc/TID/status. The thread chooses the Name line, in which the kernel escapes
// newlines.
func parseStatus(status []byte) (Credentials, error) {
	var c Credentials
	var seen statusLines
	for len(status) > 0 && seen != allStatusLines {
		var line []byte
		line, status, _ = bytes.Cut(status, newline)
		key, rest, _ := bytes.Cut(line, colon)
		found, err := c.setLine(key, rest)
		if err == nil && seen&found != 0 {
			err = errors.New("the line is there twice")
		}
		if err != nil {
			return Credentials{}, fmt.Errorf("line %q: %w", line, err)
		}
		seen |= found
	}
	// A thread that has exited has no umask any more, though it may still be waited for.
	if seen&lineUmask == 0 {
		return Credentials{}, fmt.Errorf("no line Umask: %w", os.ErrProcessDone)
	}
	if seen != allStatusLines || len(c.PIDs) == 0 || len(c.TGIDs) == 0 {
		return Credentials{}, errors.New("a line is missing, or empty")
	}
	return c, nil
}

var newline, colon = []byte("\n"), []byte(":")

// statusLines is a set of the lines that a Credentials needs.
type statusLines uint

const (
	lineUmask statusLines = 1 << iota
	lineTGID
	lineUIDs
	lineGIDs
	lineGroups
	lineTGIDs
	linePIDs
	linePermitted
	lineEffective
	allStatusLines = 1<<iota - 1
)

// setLine sets what the line of this key says; 0: nothing that is wanted.
func (c *Credentials) setLine(key, rest []byte) (statusLines, error) {
	switch string(key) {
	case "Umask":
		umask, err := parseNumber(rest, 8)
		c.Umask = uint32(umask)
		return lineUmask, err
	case "Tgid":
		tgid, err := parseNumber(rest, 10)
		c.TGID = int(tgid)
		return lineTGID, err
	case "Uid":
		return lineUIDs, parseIDs(rest, &c.UIDs)
	case "Gid":
		return lineGIDs, parseIDs(rest, &c.GIDs)
	case "Groups":
		return lineGroups, parseNumbers(rest, &c.Groups)
	case "NStgid":
		return lineTGIDs, parseNumbers(rest, &c.TGIDs)
	case "NSpid":
		return linePIDs, parseNumbers(rest, &c.PIDs)
	case "CapPrm":
		set, err := parseNumber(rest, 16)
		c.Permitted = Capabilities(set)
		return linePermitted, err
	case "CapEff":
		set, err := parseNumber(rest, 16)
		c.Effective = Capabilities(set)
		return lineEffective, err
	default:
		return 0, nil
	}
}

func parseNumber(text []byte, base int) (uint64, error) {
	return strconv.ParseUint(string(bytes.TrimSpace(text)), base, 64)
}

func parseNumbers[T int | uint32](text []byte, numbers *[]T) error {
	for field := range bytes.FieldsSeq(text) {
		n, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return err
		}
		*numbers = append(*numbers, T(n))
	}
	return nil
}

func parseIDs(text []byte, ids *IDs) error {
	fields := [...]*uint32{&ids.Real, &ids.Effective, &ids.Saved, &ids.Filesystem}
	i := 0
	for field := range bytes.FieldsSeq(text) {
		n, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return err
		}
		if i == len(fields) {
			return errors.New("want four numbers")
		}
		*fields[i] = uint32(n)
		i++
	}
	if i < len(fields) {
		return errors.New("want four numbers")
	}
	return nil
}
