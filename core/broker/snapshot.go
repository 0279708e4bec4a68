package broker

import (
	"slices"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// memoryReader reads the caller's memory, as target.ReadMemory and target.AppendString do.
type memoryReader interface {
	read(address uint64, buf []byte) unix.Errno
	appendString(dst []byte, address uint64, max int) ([]byte, unix.Errno)
}

// callerMemory is the memory of the thread.
type callerMemory int

func (tid *callerMemory) read(address uint64, buf []byte) unix.Errno {
	return target.ReadMemory(int(*tid), address, buf)
}

func (tid *callerMemory) appendString(dst []byte, address uint64, max int) ([]byte, unix.Errno) {
	return target.AppendString(dst, int(*tid), address, max)
}

// snapshot has the copies of the memory that a plugin declared to read; its space is used again for the next call.
type snapshot []*wire.Memory

// maxKept bounds a copy whose space is kept for the next call, in bytes: as long as a path.
const maxKept = unix.PathMax

// take makes the copies. The arguments are the caller's: nothing is allocated before a length is within the declared
// bound, and pointers of a 32-bit caller have 32 bits.
func (s *snapshot) take(memory memoryReader, reads []*wire.Read, arch uint32, args *[6]uint64) []*wire.Memory {
	for len(*s) < len(reads) {
		*s = append(*s, &wire.Memory{})
	}
	copies := (*s)[:len(reads)]
	for i, r := range reads {
		if copies[i].Data = copies[i].Data[:0]; cap(copies[i].Data) > maxKept {
			copies[i].Data = nil
		}
		readDeclared(copies[i], memory, r, arch, args)
	}
	return copies
}

// readDeclared reads into m, whose data is empty.
func readDeclared(m *wire.Memory, memory memoryReader, r *wire.Read, arch uint32, args *[6]uint64) {
	address := register(arch, args[r.GetArg()])
	switch kind := r.GetKind().(type) {
	case *wire.Read_String_:
		readText(m, memory, address, kind.String_.GetMax())
	case *wire.Read_Bytes:
		length := register(arch, args[kind.Bytes.GetLengthArg()])
		if length > uint64(kind.Bytes.GetMax()) {
			m.Errno = int32(unix.E2BIG)
			return
		}
		readBytes(m, memory, address, uint32(length))
	case *wire.Read_Struct:
		readBytes(m, memory, address, kind.Struct.GetSize())
	default:
		m.Errno = int32(unix.EINVAL)
	}
}

// register is an argument as wide as the caller's long.
func register(arch uint32, value uint64) uint64 {
	const is64Bit = 0x80000000 // __AUDIT_ARCH_64BIT, include/uapi/linux/audit.h
	if arch&is64Bit == 0 {
		return uint64(uint32(value))
	}
	return value
}

func readText(m *wire.Memory, memory memoryReader, address uint64, max uint32) {
	text, errno := memory.appendString(m.Data, address, int(max))
	m.Data, m.Errno = text, int32(errno)
}

func readBytes(m *wire.Memory, memory memoryReader, address uint64, n uint32) {
	data := slices.Grow(m.Data, int(n))[:n]
	errno := memory.read(address, data)
	if m.Errno = int32(errno); errno != 0 {
		data = data[:0]
	}
	m.Data = data
}

// matches says whether the plugin wants a call with these arguments.
func matches(sc *wire.Syscall, args *[6]uint64) bool {
	if len(sc.GetWhen()) == 0 {
		return true
	}
	for _, match := range sc.GetWhen() {
		if holds(match, args) {
			return true
		}
	}
	return false
}

func holds(match *wire.Match, args *[6]uint64) bool {
	for _, c := range match.GetAll() {
		if args[c.GetArg()]&c.GetMask() != c.GetValue() {
			return false
		}
	}
	return true
}
