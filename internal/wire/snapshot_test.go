package wire

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"golang.org/x/sys/unix"
)

// The page that has text in the test's own memory: low enough for a pointer of 32 bits, and above where the kernel may
// have put the C library's heap, within 1 GiB of the program (arch_randomize_brk).
const (
	pageStart = 0xf0000000
	pageSize  = 1 << 12
	base      = pageStart + pageSize - 11 // where 11 bytes begin
)

// place puts the text into the page, at the end of what can be read.
func place(t *testing.T, text []byte) {
	t.Helper()
	_, _, errno := unix.Syscall6(unix.SYS_MMAP, pageStart, pageSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE, ^uintptr(0), 0)
	if errno != 0 {
		t.Fatalf("mmap: %v", errno)
	}
	t.Cleanup(func() { unix.Syscall(unix.SYS_MUNMAP, pageStart, pageSize, 0) })
	text = text[:min(len(text), pageSize)]
	if errno := linux.WriteMemory(os.Getpid(), pageStart+pageSize-uint64(len(text)), text); errno != 0 {
		t.Fatalf("write the text: %v", errno)
	}
}

func readString(arg, max uint32) *Read {
	return &Read{Arg: arg, Kind: &Read_String_{String_: &StringRead{Max: max}}}
}

func readBytesOf(arg, length, max uint32) *Read {
	return &Read{Arg: arg, Kind: &Read_Bytes{Bytes: &BytesRead{LengthArg: length, Max: max}}}
}

func readStruct(arg, size uint32) *Read {
	return &Read{Arg: arg, Kind: &Read_Struct{Struct: &StructRead{Size: size}}}
}

func TestSnapshot(t *testing.T) {
	text := append(bytes.Repeat([]byte("x"), 10), 0)
	for name, test := range map[string]struct {
		read  *Read
		arch  uint32
		args  [6]uint64
		want  string
		errno unix.Errno
	}{
		"string":               {readString(1, 11), unix.AUDIT_ARCH_X86_64, [6]uint64{1: base}, "xxxxxxxxxx", 0},
		"string, no NUL":       {readString(1, 10), unix.AUDIT_ARCH_X86_64, [6]uint64{1: base}, "", unix.ENAMETOOLONG},
		"struct":               {readStruct(0, 3), unix.AUDIT_ARCH_X86_64, [6]uint64{base}, "xxx", 0},
		"struct past the end":  {readStruct(0, 3), unix.AUDIT_ARCH_X86_64, [6]uint64{base + 9}, "", unix.EFAULT},
		"bytes":                {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{8, 5: base}, "xxxxxxxx", 0},
		"too many bytes":       {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{9, 5: base}, "", unix.E2BIG},
		"length of 64 bits":    {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{1<<32 | 1, 5: base}, "", unix.E2BIG},
		"no bytes":             {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{}, "", 0},
		"pointer is length":    {readBytesOf(0, 0, 8), unix.AUDIT_ARCH_X86_64, [6]uint64{base}, "", unix.E2BIG},
		"garbage above 32 bit": {readBytesOf(5, 0, 8), unix.AUDIT_ARCH_I386, [6]uint64{7<<32 | 1, 5: 9<<32 | base}, "x", 0},
		"64-bit pointer":       {readStruct(5, 1), unix.AUDIT_ARCH_AARCH64, [6]uint64{5: 9<<32 | base}, "", unix.EFAULT},
		"no kind":              {&Read{}, unix.AUDIT_ARCH_X86_64, [6]uint64{base}, "", unix.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			place(t, text)
			space := Snapshot{{Data: []byte("of the call before"), Errno: 5}}
			got := space.Take(os.Getpid(), []*Read{test.read}, test.arch, &test.args)
			if len(got) != 1 || string(got[0].GetData()) != test.want || unix.Errno(got[0].GetErrno()) != test.errno {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzSnapshot checks that nothing above the declared bound is given, whatever registers and memory are.
func FuzzSnapshot(f *testing.F) {
	f.Add(uint8(0), uint32(0), uint32(1), uint32(8), uint32(unix.AUDIT_ARCH_X86_64), []byte("text\x00"), words(pageStart+0xfff, 5))
	f.Add(uint8(1), uint32(0), uint32(1), uint32(64), uint32(unix.AUDIT_ARCH_I386), []byte("text"), words(pageStart+0xffc, 1<<63))
	f.Add(uint8(1), uint32(0), uint32(1), uint32(1<<20), uint32(unix.AUDIT_ARCH_X86_64), []byte{}, words(^uint64(0), ^uint64(0)))
	f.Add(uint8(2), uint32(5), uint32(0), uint32(112), uint32(unix.AUDIT_ARCH_AARCH64), make([]byte, 200),
		words(0, 0, 0, 0, 0, pageStart+0xf38))
	f.Fuzz(func(t *testing.T, kind uint8, arg, lengthArg, bound, arch uint32, text, registers []byte) {
		arg, lengthArg, bound = arg%6, lengthArg%6, 1+bound%MaxRead // what CheckManifest lets through
		reads := []*Read{[]*Read{
			readString(arg, bound), readBytesOf(arg, lengthArg, bound), readStruct(arg, bound),
		}[kind%3]}
		var args [6]uint64
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&args)), unsafe.Sizeof(args)), registers)
		place(t, text)
		got := new(Snapshot).Take(os.Getpid(), reads, arch, &args)[0]
		switch {
		case len(got.GetData()) > int(bound):
			t.Errorf("%d bytes, the bound is %d", len(got.GetData()), bound)
		case got.GetErrno() != 0 && len(got.GetData()) != 0:
			t.Errorf("errno %d with %d bytes", got.GetErrno(), len(got.GetData()))
		case got.GetErrno() < 0 || got.GetErrno() > MaxErrno:
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

func TestWants(t *testing.T) {
	when := func(conditions ...*Condition) *Match { return &Match{All: conditions} }
	device := when(&Condition{Arg: 1, Mask: 0xf000, Value: 0x2000})
	both := when(&Condition{Arg: 0, Mask: ^uint64(0), Value: 1}, &Condition{Arg: 1, Mask: 1, Value: 1})
	for name, test := range map[string]struct {
		when []*Match
		args [6]uint64
		arch uint32
		want bool
	}{
		"none":                 {nil, [6]uint64{}, unix.AUDIT_ARCH_X86_64, true},
		"holds":                {[]*Match{device}, [6]uint64{1: 0x21ff}, unix.AUDIT_ARCH_X86_64, true},
		"garbage above":        {[]*Match{device}, [6]uint64{1: 0xdead_0000_21ff}, unix.AUDIT_ARCH_X86_64, true},
		"does not hold":        {[]*Match{device}, [6]uint64{1: 0x81ff}, unix.AUDIT_ARCH_X86_64, false},
		"all conditions":       {[]*Match{both}, [6]uint64{1, 3}, unix.AUDIT_ARCH_X86_64, true},
		"one of two":           {[]*Match{both}, [6]uint64{1, 2}, unix.AUDIT_ARCH_X86_64, false},
		"any of two matches":   {[]*Match{device, both}, [6]uint64{1, 1}, unix.AUDIT_ARCH_X86_64, true},
		"none of two matches":  {[]*Match{device, both}, [6]uint64{}, unix.AUDIT_ARCH_X86_64, false},
		"high bits of i386":    {[]*Match{both}, [6]uint64{1<<32 | 1, 7<<32 | 1}, unix.AUDIT_ARCH_I386, true},
		"high bits do not fit": {[]*Match{both}, [6]uint64{1<<32 | 1, 1}, unix.AUDIT_ARCH_X86_64, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&Syscall{When: test.when}).Wants(test.arch, &test.args); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
