package conformance

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/intercede/intercede/core/conformance/caller"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

const (
	// maxMatches bounds the conditions of a syscall that are tried, and maxBytes the memory that it is given.
	maxMatches = 8
	maxBytes   = 4096
	// allOnes is -1 in every width.
	allOnes = 1<<64 - 1
)

// allArgs are those of a call.
const allArgs = 6

// probe makes the calls with which one syscall of a manifest is tried. What the plugin wants them for is not known: so
// memory is full of what no structure has (0xff), and no two calls have the same string, so that the second does not
// find what the first one left.
type probe struct {
	syscall *wire.Syscall
	number  int32
	compat  bool // the number is of the machine's 32-bit architecture
	// worked is one of the calls that have succeeded: another than the ordinary ones may be what the plugin is made
	// for.
	worked *caller.Call
}

// made counts the strings that were made up.
var made atomic.Int64

// text is a string that no other call has.
func text() string { return fmt.Sprintf("intercede-plugin-test-%d", made.Add(1)) }

// bases are ordinary calls: one for each condition of the syscall, and before them one that has succeeded.
func (p *probe) bases() []caller.Call {
	var bases []caller.Call
	if p.worked != nil {
		bases = append(bases, p.refresh(*p.worked))
	}
	matches := p.syscall.GetWhen()
	if len(matches) == 0 {
		return append(bases, p.base(nil))
	}
	for _, m := range matches[:min(len(matches), maxMatches)] {
		bases = append(bases, p.base(m))
	}
	return bases
}

// learn notes which of the calls succeeded.
func (p *probe) learn(calls []caller.Call, results []caller.Result) {
	for i, r := range results {
		if r.Ended == "" && r.Errno == 0 {
			p.worked = &calls[i]
			return
		}
	}
}

// base is an ordinary call for which the match, which may be nil, holds.
func (p *probe) base(m *wire.Match) caller.Call {
	call := caller.Call{Name: p.syscall.GetName(), Number: p.number, Compat: p.compat}
	if len(p.syscall.GetArguments())+len(p.syscall.GetReads()) == 0 { // each may be what a result is written to
		for i := range call.Args {
			call.Args[i] = caller.Argument{Kind: caller.Bytes, Size: maxBytes}
		}
	}
	for i, a := range p.syscall.GetArguments() {
		if a.GetFormat() == wire.Argument_FORMAT_FD {
			cwd := unix.AT_FDCWD
			call.Args[i] = p.value(uint64(cwd))
		}
	}
	for _, r := range p.syscall.GetReads() {
		call.Args[r.GetArg()] = p.memory(r)
		if b := r.GetBytes(); b != nil {
			call.Args[b.GetLengthArg()] = p.value(uint64(sizeOf(r)))
		}
	}
	for _, c := range m.GetAll() {
		if _, read := p.reads(int(c.GetArg())); !read {
			a := &call.Args[c.GetArg()]
			*a = caller.Argument{Value: a.Value&^c.GetMask() | c.GetValue()}
		}
	}
	for _, r := range p.syscall.GetReads() { // a condition may be about a length
		if b := r.GetBytes(); b != nil {
			length := call.Args[b.GetLengthArg()].Value
			call.Args[r.GetArg()].Size = int(min(max(length, 1), maxBytes))
		}
	}
	return call
}

// value is a number as a caller of the architecture has it.
func (p *probe) value(n uint64) caller.Argument {
	if p.compat {
		n &= 0xffffffff
	}
	return caller.Argument{Value: n}
}

// memory is what a declared read finds in an ordinary call.
func (p *probe) memory(r *wire.Read) caller.Argument {
	if r.GetString_() != nil {
		return caller.Argument{Kind: caller.Text, Text: text()}
	}
	return caller.Argument{Kind: caller.Bytes, Size: sizeOf(r)}
}

// sizeOf is how many bytes of a declared read there are in an ordinary call.
func sizeOf(r *wire.Read) int {
	if b := r.GetBytes(); b != nil {
		return int(min(b.GetMax(), 64))
	}
	return int(min(r.GetStruct().GetSize(), maxBytes))
}

// variants are calls that differ from the ordinary ones in one argument: pointers of every kind where there may be one,
// numbers at the ends of their ranges elsewhere.
func (p *probe) variants() []caller.Call {
	var calls []caller.Call
	for _, base := range p.bases() {
		calls = append(calls, p.refresh(base))
		for i := range allArgs {
			for _, a := range p.alternatives(base, i) {
				call := p.refresh(base)
				call.Args[i] = a
				calls = append(calls, call)
			}
		}
	}
	return calls
}

// refresh gives the call strings of its own.
func (p *probe) refresh(call caller.Call) caller.Call {
	for i := range call.Args {
		if call.Args[i].Kind == caller.Text {
			call.Args[i].Text = text()
		}
	}
	return call
}

// alternatives are what argument i can be instead.
func (p *probe) alternatives(base caller.Call, i int) []caller.Argument {
	r, _ := p.reads(i)
	switch {
	case r.GetString_() != nil:
		return append(pointers, caller.Argument{Kind: caller.Edge, Text: text()}, caller.Argument{Kind: caller.Text},
			caller.Argument{Kind: caller.Long, Size: int(r.GetString_().GetMax())})
	case r != nil:
		return append(pointers, caller.Argument{Kind: caller.ReadOnly}, caller.Argument{Kind: caller.Edge, Size: base.Args[i].Size})
	case p.isConditioned(i):
		return nil
	case p.isLength(i):
		return []caller.Argument{p.value(0), p.value(allOnes)}
	case p.mayBePointer(i):
		return append(pointers, caller.Argument{Kind: caller.Bytes, Size: maxBytes}, caller.Argument{Kind: caller.ReadOnly},
			caller.Argument{Kind: caller.Edge, Size: 64})
	case i < len(p.syscall.GetArguments()):
		return []caller.Argument{p.value(0), p.value(allOnes), p.value(1 << 30)}
	default:
		return nil
	}
}

// pointers are bad in every call.
var pointers = []caller.Argument{{Kind: caller.Null}, {Kind: caller.Bad}, {Kind: caller.Unreadable}}[:3:3]

// reads is the declared read whose pointer is argument i, if there is one.
func (p *probe) reads(i int) (read *wire.Read, ok bool) {
	for _, r := range p.syscall.GetReads() {
		if int(r.GetArg()) == i {
			return r, true
		}
	}
	return nil, false
}

// isLength reports whether argument i is the length of a declared read.
func (p *probe) isLength(i int) bool {
	return slices.ContainsFunc(p.syscall.GetReads(), func(r *wire.Read) bool {
		return r.GetBytes() != nil && int(r.GetBytes().GetLengthArg()) == i
	})
}

// isConditioned reports whether the syscall is notified for some values of argument i alone.
func (p *probe) isConditioned(i int) bool {
	for _, m := range p.syscall.GetWhen() {
		for _, c := range m.GetAll() {
			if int(c.GetArg()) == i && c.GetMask() != 0 {
				return true
			}
		}
	}
	return false
}

// mayBePointer reports whether argument i is not declared to be something else.
func (p *probe) mayBePointer(i int) bool {
	declared := p.syscall.GetArguments()
	if len(declared) == 0 {
		return true
	}
	return i < len(declared) && declared[i].GetFormat() == wire.Argument_FORMAT_HEX
}
