// Package cbpftest runs seccomp programs in an interpreter, for tests.
package cbpftest

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Call is what a program sees of a system call.
type Call struct {
	Arch uint32
	NR   int32
	Args [6]uint64
}

// VM runs one program.
type VM struct {
	t  testing.TB
	vm *bpf.VM
}

// New makes an interpreter of the program, which must be valid.
func New(t testing.TB, program []unix.SockFilter) VM {
	t.Helper()
	var instructions []bpf.Instruction
	for _, i := range program {
		instructions = append(instructions, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}.Disassemble())
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatalf("the program is invalid: %v", err)
	}
	return VM{t, vm}
}

// Run returns the action and its data (SECCOMP_RET_*), as the kernel would.
func (v VM) Run(c Call) uint32 {
	v.t.Helper()
	// struct seccomp_data, its words in the byte order that this interpreter loads.
	data := make([]byte, 0, 64)
	data = binary.BigEndian.AppendUint32(data, uint32(c.NR))
	data = binary.BigEndian.AppendUint32(data, c.Arch)
	data = binary.BigEndian.AppendUint64(data, 0)
	for _, a := range c.Args {
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	action, err := v.vm.Run(data)
	if err != nil {
		v.t.Fatal(err)
	}
	return uint32(action)
}
