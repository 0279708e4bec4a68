package wire

import (
	"slices"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/internal/pause"
	"golang.org/x/sys/unix"
)

// Snapshot has the copies of the memory that a plugin declared to read; its space is used again for the next call.
type Snapshot []*Memory

// maxKept bounds a copy whose space is kept for the next call, in bytes: as long as a path.
const maxKept = unix.PathMax

// Take makes the copies of the thread tid's memory. The arguments are the caller's: nothing is allocated before a
// length is within the declared bound, and pointers of a 32-bit caller have 32 bits.
func (s *Snapshot) Take(tid int, reads []*Read, arch uint32, args *[6]uint64) []*Memory {
	for len(*s) < len(reads) {
		*s = append(*s, &Memory{})
	}
	copies := (*s)[:len(reads)]
	for i, r := range reads {
		if copies[i].Data = copies[i].Data[:0]; cap(copies[i].Data) > maxKept {
			copies[i].Data = nil
		}
		pause.At(pause.Capture)
		copies[i].take(tid, r, arch, args)
	}
	return copies
}

// take reads into m, whose data is empty.
func (m *Memory) take(tid int, r *Read, arch uint32, args *[6]uint64) {
	address := register(arch, args[r.GetArg()])
	switch kind := r.GetKind().(type) {
	case *Read_String_:
		m.appendText(tid, address, kind.String_.GetMax())
	case *Read_Bytes:
		length := register(arch, args[kind.Bytes.GetLengthArg()])
		if length > uint64(kind.Bytes.GetMax()) {
			m.Errno = int32(unix.E2BIG)
			return
		}
		m.appendBytes(tid, address, uint32(length))
	case *Read_Struct:
		m.appendBytes(tid, address, kind.Struct.GetSize())
	default:
		m.Errno = int32(unix.EINVAL)
	}
}

// register is an argument as wide as the caller's long.
func register(arch uint32, value uint64) uint64 {
	if !is64Bit(arch) {
		return uint64(uint32(value))
	}
	return value
}

// is64Bit reports whether registers have 64 bits (__AUDIT_ARCH_64BIT, include/uapi/linux/audit.h).
func is64Bit(arch uint32) bool { return arch&0x80000000 != 0 }

// Ask copies what a plugin asks for in the midst of a call, at most MaxRead bytes.
func Ask(tid int, question *ReadMemory) *Memory {
	m := &Memory{}
	switch {
	case question.GetLength() > MaxRead:
		m.Errno = int32(unix.E2BIG)
	case question.GetString_():
		m.appendText(tid, question.GetAddress(), question.GetLength())
	default:
		m.appendBytes(tid, question.GetAddress(), question.GetLength())
	}
	return m
}

func (m *Memory) appendText(tid int, address uint64, max uint32) {
	text, errno := linux.AppendString(m.Data, tid, address, int(max))
	m.Data, m.Errno = text, int32(errno)
}

func (m *Memory) appendBytes(tid int, address uint64, n uint32) {
	data := slices.Grow(m.Data, int(n))[:n]
	errno := linux.ReadMemory(tid, address, data)
	if m.Errno = int32(errno); errno != 0 {
		data = data[:0]
	}
	m.Data = data
}

// Wants reports whether the plugin wants a call with these arguments. As in the filter, those of a 32-bit caller have
// 32 bits: int 0x80 of a 64-bit program leaves what it likes above.
func (s *Syscall) Wants(arch uint32, args *[6]uint64) bool {
	if len(s.GetWhen()) == 0 {
		return true
	}
	for _, match := range s.GetWhen() {
		if match.holds(arch, args) {
			return true
		}
	}
	return false
}

func (m *Match) holds(arch uint32, args *[6]uint64) bool {
	for _, c := range m.GetAll() {
		if register(arch, args[c.GetArg()])&c.GetMask() != c.GetValue() {
			return false
		}
	}
	return true
}
