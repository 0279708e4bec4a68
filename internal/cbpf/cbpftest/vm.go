// Package cbpftest runs seccomp programs in an interpreter, for tests.
package cbpftest

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

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

// Run returns the action and its data (SECCOMP_RET_*) for a call of the architecture, a constant AUDIT_ARCH_*.
func (v VM) Run(arch uint32, nr int32, args [6]uint64) uint32 {
	v.t.Helper()
	// struct seccomp_data, its words in the byte order that this interpreter loads.
	data := make([]byte, 0, 64)
	data = binary.BigEndian.AppendUint32(data, uint32(nr))
	data = binary.BigEndian.AppendUint32(data, arch)
	data = binary.BigEndian.AppendUint64(data, 0)
	for _, a := range args {
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	action, err := v.vm.Run(data)
	if err != nil {
		v.t.Fatal(err)
	}
	return uint32(action)
}
