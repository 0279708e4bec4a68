package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

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
	t.once.Do(func() {
		t.credentials, t.err = readCredentials(t.tid)
		if t.err == nil {
			t.err = t.alive()
		}
	})
	return &t.credentials, t.err
}

// readProcFile reads a small file of procfs, without what os.ReadFile does for files of other kinds.
func readProcFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return text, nil
		}
		if text = text[:len(text)+n]; len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
	}
}

func readCredentials(tid int) (Credentials, error) {
	path := "/proc/" + strconv.Itoa(tid) + "/status"
	status, err := readProcFile(path)
	if err != nil {
		return Credentials{}, processError(err)
	}
	credentials, err := parseStatus(status)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	return credentials, nil
}

// statusFields are the lines that a Credentials needs; each sets its field.
var statusFields = map[string]func(*Credentials, []uint64) error{
	"Tgid":  func(c *Credentials, n []uint64) error { return one(n, func(v uint64) { c.TGID = int(v) }) },
	"Umask": func(c *Credentials, n []uint64) error { return one(n, func(v uint64) { c.Umask = uint32(v) }) },
	"Uid":   func(c *Credentials, n []uint64) error { return four(n, &c.UIDs) },
	"Gid":   func(c *Credentials, n []uint64) error { return four(n, &c.GIDs) },
	"CapPrm": func(c *Credentials, n []uint64) error {
		return one(n, func(v uint64) { c.Permitted = Capabilities(v) })
	},
	"CapEff": func(c *Credentials, n []uint64) error {
		return one(n, func(v uint64) { c.Effective = Capabilities(v) })
	},
	"Groups": func(c *Credentials, n []uint64) error {
		for _, v := range n {
			c.Groups = append(c.Groups, uint32(v))
		}
		return nil
	},
	"NSpid":  func(c *Credentials, n []uint64) error { return ints(n, &c.PIDs) },
	"NStgid": func(c *Credentials, n []uint64) error { return ints(n, &c.TGIDs) },
}

func one(n []uint64, set func(uint64)) error {
	if len(n) != 1 {
		return errors.New("want one number")
	}
	set(n[0])
	return nil
}

func four(n []uint64, ids *IDs) error {
	if len(n) != 4 {
		return errors.New("want four numbers")
	}
	*ids = IDs{uint32(n[0]), uint32(n[1]), uint32(n[2]), uint32(n[3])}
	return nil
}

func ints(n []uint64, into *[]int) error {
	if len(n) == 0 {
		return errors.New("want numbers")
	}
	for _, v := range n {
		*into = append(*into, int(v))
	}
	return nil
}

// parseStatus reads the text of /proc/TID/status. The thread chooses the Name line, in which the kernel escapes
// newlines.
func parseStatus(status []byte) (Credentials, error) {
	var c Credentials
	seen := map[string]bool{}
	for line := range bytes.Lines(status) {
		key, rest, _ := bytes.Cut(line, []byte(":"))
		set, wanted := statusFields[string(key)]
		if !wanted {
			continue
		}
		if seen[string(key)] {
			return Credentials{}, fmt.Errorf("line %s is there twice", key)
		}
		seen[string(key)] = true
		base := 10
		switch string(key) {
		case "CapPrm", "CapEff":
			base = 16
		case "Umask":
			base = 8
		}
		numbers, err := parseNumbers(rest, base)
		if err == nil {
			err = set(&c, numbers)
		}
		if err != nil {
			return Credentials{}, fmt.Errorf("line %q: %w", bytes.TrimSpace(line), err)
		}
	}
	// A thread that has exited has no umask any more, though it may still be waited for.
	if !seen["Umask"] {
		return Credentials{}, fmt.Errorf("no line Umask: %w", os.ErrProcessDone)
	}
	if len(seen) != len(statusFields) {
		return Credentials{}, fmt.Errorf("%d of the %d lines wanted are there", len(seen), len(statusFields))
	}
	return c, nil
}

func parseNumbers(text []byte, base int) ([]uint64, error) {
	var numbers []uint64
	for field := range bytes.FieldsSeq(text) {
		n, err := strconv.ParseUint(string(field), base, 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	return numbers, nil
}
