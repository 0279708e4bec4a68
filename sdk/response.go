package sdk

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Response is a plugin's answer to one notification. The zero Response is invalid: the broker treats it as a failure.
type Response struct {
	kind    responseKind
	value   int64
	errno   syscall.Errno
	file    *os.File
	cloexec bool
	writes  *write       // the last one
	reason  *wire.Reason // nil: none
}

// write is one of a response's, with those before it: so that responses that are built on a common one share what it
// has, and each takes the same time to add.
type write struct {
	wire.Write
	before *write
	number int // how many they are, with this one
}

type responseKind uint8

const (
	kindInvalid responseKind = iota
	kindReturn
	kindErrno
	kindContinue
	kindNext
	kindAddFD
)

// Return makes the call return value. Those from -4095 to -1 are errors to the caller: a Response with one is
// invalid, see Errno.
func Return(value int64) Response { return Response{kind: kindReturn, value: value} }

// Errno makes the call fail with errno, 1 to 4095. A Response with another is invalid: see Return for success.
func Errno(errno syscall.Errno) Response { return Response{kind: kindErrno, errno: errno} }

// Continue ends the chain of plugins: the kernel performs the call itself, with the caller's own privileges
// (SECCOMP_USER_NOTIF_FLAG_CONTINUE, seccomp_unotify(2)), and no plugin after this one is asked. It is for a call
// that this plugin has taken on, where the kernel's own answer is the right one. For a call that is not the plugin's,
// there is Next.
//
// The caller can change its memory after the plugin looked at it, so Continue is safe only where the kernel checks the
// whole call again: name the check beside each use. It takes no Write.
func Continue() Response { return Response{kind: kindContinue} }

// Next goes on along the chain: the next plugin that takes the syscall is asked (in the config's order), and after the
// last one the kernel performs the call. It is for what the plugin does not want: what its settings do not list, a
// caller that lacks the privilege, arguments that it does not know.
//
// Since the kernel may get the call, Next is safe where Continue is. It takes no Write.
func Next() Response { return Response{kind: kindNext} }

// AddFD puts file into the caller's descriptor table and makes the call return its number, in one step. The SDK closes
// file when the broker has it, also when the call could not be answered.
func AddFD(file *os.File, closeOnExec bool) Response {
	return Response{kind: kindAddFD, file: file, cloexec: closeOnExec}
}

// Write adds memory of the caller that the broker writes just before it answers, in the order of the Writes. If the
// caller could not write one of them itself, none is written, and the call fails with EFAULT. Return, Errno and AddFD
// take Writes; Continue and Next do not. The data is not to be changed after Handle has returned it.
func (r Response) Write(address uint64, data []byte) Response {
	r.writes = &write{Write: wire.Write{Address: address, Data: data}, before: r.writes, number: r.count() + 1}
	return r
}

// Because says why the call is answered so, for the operator's log, `intercede trace` and `intercede why`: the kernel's
// answer and the caller do not have it. The code is one of Manifest.Reasons. The text has what the code leaves open:
// which device, which option. It is cut after 256 bytes, and what cannot be printed is escaped, so that it may have the
// caller's own words. Give a reason with each refusal, and with each call that is left to others.
func (r Response) Because(code, text string) Response {
	r.reason = &wire.Reason{Code: code, Text: wire.Plain(text, wire.MaxReasonText)}
	return r
}

// count is how many writes there are.
func (r Response) count() int {
	if r.writes == nil {
		return 0
	}
	return r.writes.number
}

// putWrites puts the writes in their order into the list, whose room is used again.
func (r Response) putWrites(list []*wire.Write) []*wire.Write {
	n := r.count()
	list = slices.Grow(list[:0], n)[:n]
	for w := r.writes; w != nil; w = w.before {
		list[w.number-1] = &w.Write
	}
	return list
}

// String shows the response as the broker's log does, for tests: "value 0", "errno EPERM (1)", "continue".
func (r Response) String() string {
	switch r.kind {
	case kindReturn:
		return fmt.Sprintf("value %d", r.value)
	case kindErrno:
		return fmt.Sprintf("errno %s (%d)", unix.ErrnoName(r.errno), int(r.errno))
	case kindContinue:
		return "continue"
	case kindNext:
		return "next"
	case kindAddFD:
		return "addfd"
	default:
		return "invalid"
	}
}

// put makes w the response's wire form; an invalid one is an error. The file stays open.
func (r Response) put(w *wire.Response) error {
	if r.writes != nil && (r.kind == kindContinue || r.kind == kindNext) {
		return fmt.Errorf("invalid response: %v with %d writes: the kernel, or the next plugin, would read them", r, r.count())
	}
	w.Writes = r.putWrites(w.Writes)
	w.Reason = r.reason
	switch {
	case r.kind == kindReturn && r.value < 0 && r.value >= -wire.MaxErrno:
		return fmt.Errorf("invalid response (%v): to the caller this is errno %d: build it with Errno", r, -r.value)
	case r.kind == kindErrno && r.errno == 0:
		return errors.New("invalid response (errno 0): this is no error: build success with Return")
	case r.kind == kindErrno && r.errno > wire.MaxErrno:
		return fmt.Errorf("invalid response (%v): an errno is 1 to %d", r, wire.MaxErrno)
	case r.kind == kindAddFD && r.file == nil:
		return errors.New("invalid response (addfd): it has no file")
	case r.kind == kindReturn:
		w.Kind = &wire.Response_Value{Value: r.value}
	case r.kind == kindErrno:
		w.Kind = &wire.Response_Errno{Errno: int32(r.errno)}
	case r.kind == kindContinue:
		w.Kind = &wire.Response_Continue{Continue: true}
	case r.kind == kindNext:
		w.Kind = &wire.Response_Next{Next: true}
	case r.kind == kindAddFD:
		w.Kind = &wire.Response_AddFd{AddFd: &wire.AddFD{CloseOnExec: r.cloexec}}
	default:
		return fmt.Errorf("invalid response (%v): build it with Return, Errno, Continue, Next or AddFD", r)
	}
	return nil
}
