package sdktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/intercede/intercede/internal/lane"
	"github.com/intercede/intercede/internal/wire"
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
	// Reason is the code that the answer gives for itself, and Because its text. A code that the manifest does not have
	// fails the test.
	Reason  string
	Because string
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

// outcomeOf is the plugin's response as an Outcome. Its descriptor is the test's, and is closed at the end of the test.
func outcomeOf(t testing.TB, m *wire.Manifest, response *wire.Response, added *lane.Descriptor) Outcome {
	o := Outcome{Reason: response.GetReason().GetCode(), Because: response.GetReason().GetText()}
	if reason := response.GetReason(); reason != nil && !m.Declares(reason) {
		t.Errorf("sdktest: the manifest does not have the reason %q (%s)", reason.GetCode(), reason.GetText())
	}
	for _, w := range response.GetWrites() {
		o.Writes = append(o.Writes, Write{w.GetAddress(), w.GetData()})
	}
	switch kind := response.GetKind().(type) {
	case *wire.Response_Value:
		o.Kind, o.Value = Value, kind.Value
	case *wire.Response_Errno:
		o.Kind, o.Errno = Errno, syscall.Errno(kind.Errno)
	case *wire.Response_Continue:
		o.Kind = Continue
	case *wire.Response_Next:
		o.Kind = Next
	case *wire.Response_AddFd:
		o.Kind, o.CloseOnExec = AddFD, kind.AddFd.GetCloseOnExec()
		o.File = os.NewFile(uintptr(added.FD()), "addfd")
		t.Cleanup(func() { o.File.Close() })
	default:
		o.Kind, o.Err = Failure, errors.New("the response has no kind")
	}
	return o
}

// failed tells a plugin that failed from one that found the caller gone, or was told so.
func failed(err error) Outcome {
	if errors.Is(err, lane.ErrGone) || errors.Is(err, context.Canceled) {
		return Outcome{Kind: Gone, Err: err}
	}
	return Outcome{Kind: Failure, Err: err}
}
