package denial

import "github.com/cilium/ebpf/asm"

// As in include/uapi/linux/bpf.h.
const (
	block, char = 1, 2
	read, write = 2, 4
)

// codeDenies reports whether a device program denies to read and to write every device whose numbers its code does
// not name. It follows the program with numbers of which nothing is known but that they differ from every constant
// that they are compared with. A program that does anything else with them, or what is not known here, counts as one
// that allows.
func codeDenies(program asm.Instructions) bool {
	offsets, ok := rawOffsets(program)
	if !ok {
		return false
	}
	for _, kind := range []uint64{block, char} {
		for _, access := range []uint64{read, write, read | write} {
			r := run{program: program, offsets: offsets}
			r.registers[asm.R1] = value{kind: context}
			if !r.denies(access<<16 | kind) {
				return false
			}
		}
	}
	return true
}

// rawOffsets gives the index of the instruction at each offset: one of 16 bytes takes two.
func rawOffsets(program asm.Instructions) (map[int]int, bool) {
	offsets, raw := map[int]int{}, 0
	for i := range program {
		if program[i].Reference() != "" {
			return nil, false
		}
		offsets[raw] = i
		raw += int(program[i].Width())
	}
	return offsets, true
}

// value is what a register has.
type value struct {
	kind   valueKind
	number uint64
}

type valueKind uint8

const (
	unknown valueKind = iota
	number
	context // a pointer to the struct bpf_cgroup_dev_ctx
	unnamed // a major or minor number that differs from all constants
)

// run is the program with one kind and access of a device.
type run struct {
	program   asm.Instructions
	offsets   map[int]int
	registers [16]value
}

// maxSteps bounds a run: the kernel has none that does not end, and those that are meant have no loops.
const maxSteps = 1 << 16

// denies follows the program to its end.
func (r *run) denies(accessType uint64) bool {
	raw := 0
	for range maxSteps {
		i, ok := r.offsets[raw]
		if !ok {
			return false
		}
		in := r.program[i]
		next := raw + int(in.Width())
		switch class := in.OpCode.Class(); class {
		case asm.LdXClass:
			ok = r.load(in, accessType)
		case asm.ALUClass, asm.ALU64Class:
			ok = r.compute(in, class == asm.ALUClass)
		case asm.JumpClass, asm.Jump32Class:
			if in.OpCode.JumpOp() == asm.Exit {
				result := r.registers[asm.R0]
				return result.kind == number && result.number == 0
			}
			var taken bool
			if taken, ok = r.jumps(in, class == asm.Jump32Class); taken {
				next += int(in.Offset)
			}
		default:
			ok = false
		}
		if !ok {
			return false
		}
		raw = next
	}
	return false
}

// load reads a field of struct bpf_cgroup_dev_ctx: access_type (access << 16 | type), major, minor.
func (r *run) load(in asm.Instruction, accessType uint64) bool {
	if r.registers[in.Src].kind != context || in.OpCode.Mode() != asm.MemMode {
		return false
	}
	var v value
	switch size := in.OpCode.Size(); {
	case in.Offset == 0 && size == asm.Word:
		v = value{number, accessType}
	case in.Offset == 0 && size == asm.Half:
		v = value{number, accessType & 0xffff}
	case in.Offset == 2 && size == asm.Half:
		v = value{number, accessType >> 16}
	case (in.Offset == 4 || in.Offset == 8) && size == asm.Word:
		v = value{kind: unnamed}
	default:
		return false
	}
	r.registers[in.Dst] = v
	return true
}

// compute does a move, or arithmetic of what is known.
func (r *run) compute(in asm.Instruction, short bool) bool {
	operand := r.operand(in)
	dst := &r.registers[in.Dst]
	op := in.OpCode.ALUOp()
	if op == asm.Mov && in.Offset == 0 {
		// The upper half of a field is zero, so that a move of 32 bits changes nothing.
		if *dst = operand; short {
			dst.number &= 1<<32 - 1
		}
		return operand.kind == number || operand.kind == unnamed || operand.kind == context && !short
	}
	if dst.kind != number || operand.kind != number || in.Offset != 0 {
		return false
	}
	switch op {
	case asm.And:
		dst.number &= operand.number
	case asm.Or:
		dst.number |= operand.number
	case asm.RSh:
		if operand.number >= 32 {
			return false
		}
		if short {
			dst.number &= 1<<32 - 1
		}
		dst.number >>= operand.number
	default:
		return false
	}
	if short {
		dst.number &= 1<<32 - 1
	}
	return true
}

// operand is the second one of an instruction. Constants are sign-extended.
func (r *run) operand(in asm.Instruction) value {
	if in.OpCode.Source() == asm.RegSource {
		return r.registers[in.Src]
	}
	return value{number, uint64(in.Constant)}
}

// jumps reports whether a jump is taken; ok is false where that is not known.
func (r *run) jumps(in asm.Instruction, short bool) (taken, ok bool) {
	op := in.OpCode.JumpOp()
	if op == asm.Ja {
		return true, !short
	}
	if op != asm.JEq && op != asm.JNE {
		return false, false
	}
	a, b := r.registers[in.Dst], r.operand(in)
	equal := false
	switch {
	case a.kind == number && b.kind == number:
		if short {
			a.number, b.number = a.number&(1<<32-1), b.number&(1<<32-1)
		}
		equal = a.number == b.number
	case a.kind == unnamed && b.kind == number && in.OpCode.Source() == asm.ImmSource:
	default:
		return false, false
	}
	return equal == (op == asm.JEq), true
}
