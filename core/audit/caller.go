package audit

import (
	"bytes"
	"os"
	"strconv"

	"github.com/intercede/intercede/internal/wire"
)

// Container is what a record says of the container, which does not change.
type Container struct {
	ID, Runtime string
	Name, Image string // empty: not known
	Generation  uint64 // of the policy that it has; 0: an earlier daemon's
	UIDs        []*wire.IDMapping
}

// Inside returns the number that a user of the host has in the container; false: it has none there.
func (c *Container) Inside(uid uint32) (uint32, bool) {
	for _, m := range c.UIDs {
		if uid >= m.GetOutside() && uid-m.GetOutside() < m.GetLength() {
			return m.GetInside() + uid - m.GetOutside(), true
		}
	}
	return 0, false
}

// Caller is the thread that called, as it was while it waited.
type Caller struct {
	Comm   string // as /proc/TID/status has it; the thread chooses it
	PID    int32  // of its process, in the broker's pid namespace
	OwnPID int32  // of its process, in its own pid namespace
	OwnTID int32
	UID    uint32 // effective, in the broker's user namespace
}

// ReadCaller reads what /proc/TID/status says (proc_pid_status(5)); nil: there is no such thread. It is of whoever has
// that number now: of the caller, if that is known to wait afterwards.
func ReadCaller(tid int) *Caller {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return nil
	}
	c := &Caller{}
	for line := range bytes.Lines(status) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		fields := bytes.Fields(value)
		if string(key) == "Name" {
			c.Comm = string(bytes.TrimSpace(value))
		}
		if len(fields) == 0 {
			continue
		}
		switch string(key) {
		case "Tgid":
			c.PID = number(fields[0])
		case "NStgid":
			c.OwnPID = number(fields[len(fields)-1])
		case "NSpid":
			c.OwnTID = number(fields[len(fields)-1])
		case "Uid":
			if len(fields) > 1 {
				uid, _ := strconv.ParseUint(string(fields[1]), 10, 32)
				c.UID = uint32(uid)
			}
		}
	}
	return c
}

func number(text []byte) int32 {
	n, _ := strconv.ParseInt(string(text), 10, 32)
	return int32(n)
}

// maxKept bounds what a copy of a record keeps of each piece of the caller's memory, in bytes.
const maxKept = 1024

// Clone returns a copy that may be kept.
func (r Record) Clone() *Record {
	notification := *r.Notification
	r.Notification = &notification
	reads := make([]*wire.Memory, len(r.Reads))
	for i, m := range r.Reads {
		data := m.GetData()
		reads[i] = &wire.Memory{Data: bytes.Clone(data[:min(len(data), maxKept)]), Errno: m.GetErrno()}
	}
	r.Reads = reads
	return &r
}
