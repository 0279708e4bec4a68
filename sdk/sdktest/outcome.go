package sdktest

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kind is the way in which a call was answered.
type Kind string

const (
	Value    Kind = "value"    // it returned Outcome.Value
	Errno    Kind = "errno"    // it failed with Outcome.Errno
	Continue Kind = "continue" // the kernel performed it
	Next     Kind = "next"     // it was left to the next plugin
	AddFD    Kind = "addfd"    // it returned a new descriptor
	Failure  Kind = "failure"  // the plugin failed: an error, a panic, an invalid response, or not done at the deadline
	Gone     Kind = "gone"     // the caller no longer waited
	Unwanted Kind = "unwanted" // no condition of the manifest held: the handler was not asked
)

// Outcome is how one call was answered.
type Outcome struct {
	Kind  Kind
	Value int64         // of Value
	Errno syscall.Errno // of Errno
	// File is a copy of the descriptor of AddFD, closed at the end of the test.
	File        *os.File
	CloseOnExec bool  // of AddFD
	Err         error // of Failure and Gone: what the broker's log would say
	// Writes is the memory that the answer wrote, or was to write, into the caller.
	Writes []Write
}

// Write is memory of the caller that an answer wrote.
type Write struct {
	Address uint64
	Data    []byte
}

// String shows the outcome as sdk.Response does ("value 0", "errno EPERM (1)", "continue"), writes behind it:
// "value 0, write 0x1000 = 01ff".
func (o Outcome) String() string {
	var b strings.Builder
	b.WriteString(string(o.Kind))
	switch o.Kind {
	case Value:
		fmt.Fprintf(&b, " %d", o.Value)
	case Errno:
		fmt.Fprintf(&b, " %s (%d)", unix.ErrnoName(o.Errno), int(o.Errno))
	case Failure:
		fmt.Fprintf(&b, ": %v", o.Err)
	}
	for _, w := range o.Writes {
		fmt.Fprintf(&b, ", write %#x = %x", w.Address, w.Data)
	}
	return b.String()
}
