// Package event is the record of an intercepted call as programs read it: one JSON schema, with a version, that the
// audit sink, `intercede trace` and `intercede why` share. docs/audit.md describes it.
package event

import (
	"strconv"
	"time"

	"github.com/intercede/intercede/core/audit"
	"github.com/intercede/intercede/core/strace"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Schema is the version of the schema. A field that is added does not change it; one that goes, or means something
// else, does.
const Schema = 1

// Event is one call. What is not known, or does not apply, is left out.
type Event struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"` // of the answer

	Container  string `json:"container,omitempty"`
	Name       string `json:"name,omitempty"`
	Image      string `json:"image,omitempty"`
	Runtime    string `json:"runtime,omitempty"`
	Generation uint64 `json:"generation,omitempty"`

	Syscall      string  `json:"syscall,omitempty"`
	Arch         string  `json:"arch,omitempty"`
	Call         string  `json:"call,omitempty"`
	TID          uint32  `json:"tid,omitempty"`
	PID          int32   `json:"pid,omitempty"`
	ContainerTID int32   `json:"container_tid,omitempty"`
	ContainerPID int32   `json:"container_pid,omitempty"`
	Comm         string  `json:"comm,omitempty"`
	UID          *uint32 `json:"uid,omitempty"`
	ContainerUID *uint32 `json:"container_uid,omitempty"`

	Plugin  string     `json:"plugin,omitempty"`
	Outcome audit.Kind `json:"outcome,omitempty"`
	Value   *int64     `json:"value,omitempty"`
	Errno   string     `json:"errno,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Because string     `json:"because,omitempty"`
	Error   string     `json:"error,omitempty"`

	Milliseconds float64 `json:"ms,omitempty"`
	PluginMS     float64 `json:"plugin_ms,omitempty"`
	NotifID      uint64  `json:"notif_id,omitempty"`

	Suppressed int `json:"suppressed,omitempty"` // events of the same kind before this one
	Dropped    int `json:"dropped,omitempty"`    // events of all kinds; such an event has nothing else but schema and time
}

// What is kept of texts that a container or a plugin chose, in bytes.
const (
	maxName  = 256
	maxComm  = 64
	maxError = 1024
)

// Of makes an event of a record.
func Of(r *audit.Record, at time.Time) Event {
	o, c := r.Outcome, r.Container
	call := strace.Of(*r)
	e := Event{
		Schema: Schema, Time: at.UTC(),
		Container: wire.Plain(c.ID, maxName), Name: wire.Plain(c.Name, maxName), Image: wire.Plain(c.Image, maxName),
		Runtime: c.Runtime, Generation: c.Generation,
		Syscall: r.Syscall, Arch: audit.ArchName(r.Notification.Arch), Call: call.Invocation(), TID: r.Notification.TID,
		Plugin: call.Plugin, Outcome: o.Kind, Reason: o.Reason.Code, Because: o.Reason.Text,
		Milliseconds: milliseconds(r.Duration), PluginMS: milliseconds(r.InPlugin), NotifID: r.Notification.ID,
	}
	switch o.Kind {
	case audit.Return, audit.AddFD:
		e.Value = &o.Value
	case audit.Errno:
		e.Errno = errnoName(o.Errno)
	}
	if o.Err != nil {
		e.Error = wire.Plain(o.Err.Error(), maxError)
	}
	if caller := r.Caller; caller != nil {
		e.PID, e.ContainerPID, e.ContainerTID = caller.PID, caller.OwnPID, caller.OwnTID
		e.Comm, e.UID = wire.Plain(caller.Comm, maxComm), &caller.UID
		if inside, ok := c.Inside(caller.UID); ok {
			e.ContainerUID = &inside
		}
	}
	return e
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// errnoName names an errno. A plugin may have chosen it, so it may be a number without a name.
func errnoName(errno unix.Errno) string {
	if name := unix.ErrnoName(errno); name != "" {
		return name
	}
	return strconv.Itoa(int(errno))
}

// Lost is an event that stands for those that were dropped, since somebody did not take them in time.
func Lost(dropped int, at time.Time) Event {
	return Event{Schema: Schema, Time: at.UTC(), Dropped: dropped}
}
