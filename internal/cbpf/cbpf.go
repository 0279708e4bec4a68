// Package cbpf assembles seccomp programs: classic BPF that decides over struct seccomp_data (seccomp(2)).
package cbpf

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h). The low word of an argument comes first: the architectures that the
// project knows are little-endian.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// Program is a program that is being written: its methods append instructions to it. The zero Program is empty.
type Program struct {
	steps  []any // bpf.Instruction, Label or jump
	labels Label
}

// Label is a place in a Program to jump to.
type Label int

// jump goes to a label: always, or as a comparison of what was loaded last with the value says.
type jump struct {
	to    Label
	when  when
	value uint32
}

type when int

const (
	always when = iota
	unlessEqual
	ifAbove
)

// NewLabel returns a label of this program, which Place gives its place.
func (p *Program) NewLabel() Label {
	p.labels++
	return p.labels
}

// Place makes the label the place of the instruction that is appended next. As classic BPF jumps forward only, every
// jump to the label must be there already.
func (p *Program) Place(l Label) { p.steps = append(p.steps, l) }

// LoadNumber loads the number of the system call.
func (p *Program) LoadNumber() { p.load(offsetNumber) }

// LoadArch loads the architecture, a constant AUDIT_ARCH_*.
func (p *Program) LoadArch() { p.load(offsetArch) }

func (p *Program) load(offset uint32) {
	p.steps = append(p.steps, bpf.LoadAbsolute{Off: offset, Size: 4})
}

// And clears the bits of what was loaded last that the mask has not.
func (p *Program) And(mask uint32) {
	p.steps = append(p.steps, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
}

// JumpUnless jumps unless the value is what was loaded last.
func (p *Program) JumpUnless(value uint32, to Label) {
	p.steps = append(p.steps, jump{to, unlessEqual, value})
}

// JumpIfAbove jumps if what was loaded last is larger than the value.
func (p *Program) JumpIfAbove(value uint32, to Label) {
	p.steps = append(p.steps, jump{to, ifAbove, value})
}

// JumpUnlessArgument loads argument arg (0 to 5), and jumps unless it is the value where the mask has ones. Narrow is
// for architectures whose registers have 32 bits: the upper half of an argument may be anything there, and counts as 0.
func (p *Program) JumpUnlessArgument(arg uint32, mask, value uint64, narrow bool, to Label) {
	if narrow {
		mask &= math.MaxUint32
	}
	if value&^mask != 0 {
		p.steps = append(p.steps, jump{to: to})
		return
	}
	low := offsetArgs + 8*arg
	p.jumpUnlessWord(low, uint32(mask), uint32(value), to)
	p.jumpUnlessWord(low+4, uint32(mask>>32), uint32(value>>32), to)
}

func (p *Program) jumpUnlessWord(offset, mask, value uint32, to Label) {
	if mask == 0 {
		return
	}
	p.load(offset)
	if mask != math.MaxUint32 {
		p.And(mask)
	}
	p.JumpUnless(value, to)
}

// Return ends the program with an action, SECCOMP_RET_*.
func (p *Program) Return(action uint32) { p.steps = append(p.steps, bpf.RetConstant{Val: action}) }

// Assemble returns the program as the kernel loads it. It is an error if the program does not end with Return, is
// longer than the kernel takes, or jumps to a label that is not placed after the jump.
func (p *Program) Assemble() ([]unix.SockFilter, error) {
	raw, err := p.assemble()
	if err != nil {
		return nil, fmt.Errorf("assemble a seccomp program: %w", err)
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return program, nil
}

func (p *Program) assemble() ([]bpf.RawInstruction, error) {
	if len(p.steps) == 0 {
		return nil, errors.New("it is empty")
	}
	if _, ends := p.steps[len(p.steps)-1].(bpf.RetConstant); !ends {
		return nil, errors.New("it does not end with a return")
	}
	instructions, err := p.instructions()
	if err != nil {
		return nil, err
	}
	if len(instructions) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("%d instructions, the kernel takes %d", len(instructions), unix.BPF_MAXINSNS)
	}
	return bpf.Assemble(instructions)
}

// instructions makes distances of the labels. It goes from the end to the start, so that what a jump leaps over has its
// final length when the jump is made.
func (p *Program) instructions() ([]bpf.Instruction, error) {
	var reversed []bpf.Instruction
	placed := map[Label]int{} // how many instructions there are from the label to the end
	for i, s := range slices.Backward(p.steps) {
		switch s := s.(type) {
		case Label:
			if _, twice := placed[s]; twice {
				return nil, fmt.Errorf("label %d is placed twice", s)
			}
			placed[s] = len(reversed)
		case jump:
			target, ok := placed[s.to]
			if !ok {
				return nil, fmt.Errorf("step %d jumps to label %d, which is not placed after it", i, s.to)
			}
			reversed = append(reversed, s.reversed(len(reversed)-target)...)
		case bpf.Instruction:
			reversed = append(reversed, s)
		}
	}
	slices.Reverse(reversed)
	return reversed, nil
}

// reversed is the jump over skip instructions, its last instruction first. A conditional jump reaches 255 instructions;
// where that is not enough it skips an unconditional one if it is not to jump.
func (j jump) reversed(skip int) []bpf.Instruction {
	far := bpf.Jump{Skip: uint32(skip)}
	test := map[when]bpf.JumpTest{unlessEqual: bpf.JumpEqual, ifAbove: bpf.JumpLessOrEqual}[j.when]
	switch {
	case j.when == always:
		return []bpf.Instruction{far}
	case skip <= math.MaxUint8:
		return []bpf.Instruction{bpf.JumpIf{Cond: test, Val: j.value, SkipFalse: uint8(skip)}}
	default:
		return []bpf.Instruction{far, bpf.JumpIf{Cond: test, Val: j.value, SkipTrue: 1}}
	}
}

// Notify is the program that notifies these system calls and allows all others. It looks at numbers alone, which mean
// something else on other architectures: it is for processes that are known, not for containers.
func Notify(numbers ...uint32) ([]unix.SockFilter, error) {
	var p Program
	p.LoadNumber()
	for _, nr := range numbers {
		other := p.NewLabel()
		p.JumpUnless(nr, other)
		p.Return(unix.SECCOMP_RET_USER_NOTIF)
		p.Place(other)
	}
	p.Return(unix.SECCOMP_RET_ALLOW)
	return p.Assemble()
}
