package bpf

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// insnSize is the size of struct bpf_insn, in bytes: opcode, registers (source in the high bits), offset, immediate.
const insnSize = 8

// probeInsns are r0 = 0; exit: the program of type CGROUP_SKB by which the library of runc finds out whether the kernel
// has BPF_PROG_ATTACH (haveProgAttach, github.com/cilium/ebpf/link). If it cannot load that, it attaches no device
// program. To attach it to a cgroup the kernel asks for CAP_NET_ADMIN in the initial user namespace
// (bpf_prog_attach_check_attach_type, kernel/bpf/syscall.c).
var probeInsns = []byte{
	unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, 0, 0, 0, 0, 0, 0, 0,
	unix.BPF_JMP | unix.BPF_EXIT, 0, 0, 0, 0, 0, 0, 0,
}

// Opcodes, and what the source register of some means (include/uapi/linux/bpf.h).
const (
	opLoad64  = unix.BPF_LD | unix.BPF_IMM | unix.BPF_DW // a constant of two instructions, or the address of something
	opCall    = unix.BPF_JMP | unix.BPF_CALL
	opMayGoto = unix.BPF_JMP | unix.BPF_JCOND // loops that the verifier does not bound

	sourceConstant = 0 // of opLoad64
	sourceHelper   = 0 // of opCall
	sourceProgram  = unix.BPF_PSEUDO_CALL
)

// helpers are the kernel's functions that a program may call (enum bpf_func_id). They tell it about the task that opens
// a device. Not among them is bpf_set_retval, with which a program would take back the refusal of one that ran before
// it: of the runtime's on the same cgroup, for example.
var helpers = map[int32]bool{
	5:  true, // ktime_get_ns
	7:  true, // get_prandom_u32
	8:  true, // get_smp_processor_id
	14: true, // get_current_pid_tgid
	15: true, // get_current_uid_gid
	16: true, // get_current_comm
	80: true, // get_current_cgroup_id
}

// checkProgram says what of the instructions the plugin does not load: what names an object of the caller, such as a
// map, by a descriptor, which would be another one here; and what reaches beyond the program.
//
// It looks at every instruction, also at what may be the second half of a constant: the verifier refuses one that is
// anything but zero and its immediate (bpf_check_pseudo_ldimm64, kernel/bpf/verifier.c).
func checkProgram(insns []byte) error {
	for i := 0; i+insnSize <= len(insns); i += insnSize {
		opcode, source, immediate := insns[i], insnSource(insns[i+1]), int32(binary.NativeEndian.Uint32(insns[i+4:]))
		switch {
		case opcode == opLoad64 && source != sourceConstant:
			return fmt.Errorf("instruction %d names a map or another object: device programs are loaded without", i/insnSize)
		case opcode == opCall && source != sourceProgram && (source != sourceHelper || !helpers[immediate]):
			return fmt.Errorf("instruction %d calls function %d of the kernel, which device programs are not given", i/insnSize, immediate)
		case opcode == opMayGoto:
			return fmt.Errorf("instruction %d is a loop without a bound", i/insnSize)
		}
	}
	return nil
}

// insnSource is the source register of an instruction's registers byte: bit fields, which follow the byte order.
func insnSource(registers byte) byte { return registers >> 4 }

// overrides reports whether a program attached below a cgroup in this state would take effect instead of the cgroup's
// own (compute_effective_progs, kernel/bpf/cgroup.c): only those of BPF_F_ALLOW_MULTI run beside the ones below them.
func overrides(above attached) bool {
	return len(above.programs) > 0 && above.flags&unix.BPF_F_ALLOW_MULTI == 0
}
