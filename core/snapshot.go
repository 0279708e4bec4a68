package core

import (
	"github.com/intercede/intercede/sdk/proto"
	"github.com/intercede/intercede/sdk/target"
	"golang.org/x/sys/unix"
)

// memoryReader reads the caller's memory, as target.ReadMemory and target.ReadString do.
type memoryReader interface {
	read(address uint64, buf []byte) unix.Errno
	readString(address uint64, max int) ([]byte, unix.Errno)
}

// callerMemory is the memory of the thread.
type callerMemory int

func (tid callerMemory) read(address uint64, buf []byte) unix.Errno {
	return target.ReadMemory(int(tid), address, buf)
}

func (tid callerMemory) readString(address uint64, max int) ([]byte, unix.Errno) {
	return target.ReadString(int(tid), address, max)
}

// snapshot copies the memory that a plugin declared to read. The arguments are the caller's: nothing is allocated before
// a length is within the declared bound, and pointers of a 32-bit caller have 32 bits.
func snapshot(memory memoryReader, reads []*proto.Read, arch uint32, args *[6]uint64) []*proto.Memory {
	copies := make([]*proto.Memory, len(reads))
	for i, r := range reads {
		copies[i] = readDeclared(memory, r, arch, args)
	}
	return copies
}

func readDeclared(memory memoryReader, r *proto.Read, arch uint32, args *[6]uint64) *proto.Memory {
	address := register(arch, args[r.GetArg()])
	switch kind := r.GetKind().(type) {
	case *proto.Read_String_:
		return readText(memory, address, kind.String_.GetMax())
	case *proto.Read_Bytes:
		length := register(arch, args[kind.Bytes.GetLengthArg()])
		if length > uint64(kind.Bytes.GetMax()) {
			return &proto.Memory{Errno: int32(unix.E2BIG)}
		}
		return readBytes(memory, address, uint32(length))
	case *proto.Read_Struct:
		return readBytes(memory, address, kind.Struct.GetSize())
	default:
		return &proto.Memory{Errno: int32(unix.EINVAL)}
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

func readText(memory memoryReader, address uint64, max uint32) *proto.Memory {
	text, errno := memory.readString(address, int(max))
	return &proto.Memory{Data: text, Errno: int32(errno)}
}

func readBytes(memory memoryReader, address uint64, n uint32) *proto.Memory {
	buf := make([]byte, n)
	if errno := memory.read(address, buf); errno != 0 {
		return &proto.Memory{Errno: int32(errno)}
	}
	return &proto.Memory{Data: buf}
}

// matches says whether the plugin wants a call with these arguments.
func matches(sc *proto.Syscall, args *[6]uint64) bool {
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

func holds(match *proto.Match, args *[6]uint64) bool {
	for _, c := range match.GetAll() {
		if args[c.GetArg()]&c.GetMask() != c.GetValue() {
			return false
		}
	}
	return true
}
