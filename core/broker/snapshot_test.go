package broker

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// fakeMemory is a caller's memory: text at base, and nothing around it. It keeps account of what is asked for.
type fakeMemory struct {
	base  uint64
	text  []byte
	asked int // the largest request
}

func (m *fakeMemory) read(address uint64, buf []byte) unix.Errno {
	m.asked = max(m.asked, len(buf))
	if len(buf) == 0 {
		return 0
	}
	if address < m.base || address-m.base > uint64(len(m.text)) || copy(buf, m.text[address-m.base:]) < len(buf) {
		return unix.EFAULT
	}
	return 0
}

func (m *fakeMemory) appendString(dst []byte, address uint64, limit int) ([]byte, unix.Errno) {
	m.asked = max(m.asked, limit)
	if address < m.base || address-m.base > uint64(len(m.text)) {
		return dst, unix.EFAULT
	}
	rest := m.text[address-m.base:]
	switch end := bytes.IndexByte(rest, 0); {
	case end >= 0 && end < limit:
		return append(dst, rest[:end]...), 0
	case len(rest) >= limit:
		return dst, unix.ENAMETOOLONG
	default:
		return dst, unix.EFAULT
	}
}

func readString(arg, max uint32) *wire.Read {
	return &wire.Read{Arg: arg, Kind: &wire.Read_String_{String_: &wire.StringRead{Max: max}}}
}

func readBytesOf(arg, length, max uint32) *wire.Read {
	return &wire.Read{Arg: arg, Kind: &wire.Read_Bytes{Bytes: &wire.BytesRead{LengthArg: length, Max: max}}}
}

func readStruct(arg, size uint32) *wire.Read {
	return &wire.Read{Arg: arg, Kind: &wire.Read_Struct{Struct: &wire.StructRead{Size: size}}}
}

func TestSnapshot(t *testing.T) {
	text := append(bytes.Repeat([]byte("x"), 10), 0)
	for name, test := range map[string]struct {
		read  *wire.Read
		arch  uint32
		args  [6]uint64
		want  string
		errno unix.Errno
	}{
		"string":               {readString(1, 11), unix.AUDIT_ARCH_X86_64, [6]uint64{1: 0x1000}, "xxxxxxxxxx", 0},
		"string, no NUL":       {readString(1, 10), unix.AUDIT_ARCH_X86_64, [6]uint64{1: 0x1000}, "", unix.ENAMETOOLONG},
		"struct":               {readStruct(0, 3), unix.AUDIT_ARCH_X86_64, [6]uint64{0x1000}, "xxx", 0},
		"struct past the end":  {readStruct(0, 3), unix.AUDIT_ARCH_X86_64, [6]uint64{0x1009}, "", unix.EFAULT},
		"bytes":                {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{8, 5: 0x1000}, "xxxxxxxx", 0},
		"too many bytes":       {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{9, 5: 0x1000}, "", unix.E2BIG},
		"length of 64 bits":    {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{1<<32 | 1, 5: 0x1000}, "", unix.E2BIG},
		"no bytes":             {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{}, "", 0},
		"pointer is length":    {readBytesOf(0, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{0x1000}, "", unix.E2BIG},
		"garbage above 32 bit": {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_I386, [6]uint64{7<<32 | 1, 5: 9<<32 | 0x1000}, "x", 0},
		"64-bit pointer":       {readStruct(5, 1), unix.AUDIT_ARCH_AARCH64, [6]uint64{5: 9<<32 | 0x1000}, "", unix.EFAULT},
		"no kind":              {&wire.Read{}, unix.AUDIT_ARCH_X86_64, [6]uint64{0x1000}, "", unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			space := snapshot{{Data: []byte("of the call before"), Errno: 5}}
			got := space.take(&fakeMemory{base: 0x1000, text: text}, []*wire.Read{test.read}, test.arch, &test.args)
			if len(got) != 1 || string(got[0].GetData()) != test.want || unix.Errno(got[0].GetErrno()) != test.errno {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzSnapshot checks that nothing above the declared bound is asked for or given, whatever registers and memory are.
func FuzzSnapshot(f *testing.F) {
	f.Add(uint8(0), uint32(0), uint32(1), uint32(8), uint32(unix.AUDIT_ARCH_X86_64), []byte("text\x00"), words(0x1000, 5))
	f.Add(uint8(1), uint32(0), uint32(1), uint32(64), uint32(unix.AUDIT_ARCH_I386), []byte("text"), words(0x1000, 1<<63))
	f.Add(uint8(1), uint32(0), uint32(1), uint32(1<<20), uint32(unix.AUDIT_ARCH_X86_64), []byte{}, words(^uint64(0), ^uint64(0)))
	f.Add(uint8(2), uint32(5), uint32(0), uint32(112), uint32(unix.AUDIT_ARCH_AARCH64), make([]byte, 200), words(0, 0, 0, 0, 0, 0x1000))
	f.Fuzz(func(t *testing.T, kind uint8, arg, lengthArg, bound, arch uint32, text, registers []byte) {
		arg, lengthArg, bound = arg%6, lengthArg%6, 1+bound%wire.MaxRead // what CheckManifest lets through
		reads := []*wire.Read{[]*wire.Read{
			readString(arg, bound), readBytesOf(arg, lengthArg, bound), readStruct(arg, bound),
		}[kind%3]}
		var args [6]uint64
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&args)), unsafe.Sizeof(args)), registers)
		memory := &fakeMemory{base: 0x1000, text: text}
		got := new(snapshot).take(memory, reads, arch, &args)[0]
		switch {
		case memory.asked > int(bound) || len(got.GetData()) > int(bound):
			t.Errorf("asked for %d bytes and got %d, the bound is %d", memory.asked, len(got.GetData()), bound)
		case got.GetErrno() != 0 && len(got.GetData()) != 0:
			t.Errorf("errno %d with %d bytes", got.GetErrno(), len(got.GetData()))
		case got.GetErrno() < 0 || got.GetErrno() > wire.MaxErrno:
			t.Errorf("errno %d", got.GetErrno())
		case kind%3 == 0 && bytes.IndexByte(got.GetData(), 0) >= 0:
			t.Error("a NUL in a string")
		case kind%3 == 2 && got.GetErrno() == 0 && len(got.GetData()) != int(bound):
			t.Errorf("%d bytes of a struct of %d", len(got.GetData()), bound)
		}
	})
}

func words(values ...uint64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

func TestMatches(t *testing.T) {
	when := func(conditions ...*wire.Condition) *wire.Match { return &wire.Match{All: conditions} }
	device := when(&wire.Condition{Arg: 1, Mask: 0xf000, Value: 0x2000})
	both := when(&wire.Condition{Arg: 0, Mask: ^uint64(0), Value: 1}, &wire.Condition{Arg: 1, Mask: 1, Value: 1})
	for name, test := range map[string]struct {
		when []*wire.Match
		args [6]uint64
		want bool
	}{
		"none":                 {nil, [6]uint64{}, true},
		"holds":                {[]*wire.Match{device}, [6]uint64{1: 0x21ff}, true},
		"garbage above":        {[]*wire.Match{device}, [6]uint64{1: 0xdead_0000_21ff}, true},
		"does not hold":        {[]*wire.Match{device}, [6]uint64{1: 0x81ff}, false},
		"all conditions":       {[]*wire.Match{both}, [6]uint64{1, 3}, true},
		"one of two":           {[]*wire.Match{both}, [6]uint64{1, 2}, false},
		"any of two matches":   {[]*wire.Match{device, both}, [6]uint64{1, 1}, true},
		"none of two matches":  {[]*wire.Match{device, both}, [6]uint64{}, false},
		"high bits do not fit": {[]*wire.Match{both}, [6]uint64{1<<32 | 1, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := matches(&wire.Syscall{When: test.when}, &test.args); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
