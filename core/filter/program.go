package filter

import (
	"fmt"

	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (linux/seccomp.h). The low word of an argument comes first: the architectures of this
// package are little-endian.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// maxInstructions is the kernel's limit for a program (BPF_MAXINSNS, linux/bpf_common.h).
const maxInstructions = 4096

// Program is the seccomp program that notifies what the manifests take and allows all else, on every architecture of this
// machine; one that it does not know is allowed as well, since the program forbids nothing. Reserved are calls that no
// plugin may take, since the loader itself makes them before the listener has a reader.
//
// The code is made here and not by libseccomp, which (2.5.0 to 2.6.1) shares instructions between architectures without
// regard to what they expect in the accumulator, so that calls with several conditions are missed, and which cannot add a
// call that it has no name for to any but the native architecture.
func Program(manifests []*wire.Manifest, reserved []string) ([]unix.SockFilter, error) {
	captures, err := collect(manifests)
	if err != nil {
		return nil, err
	}
	if err := refuse(captures, reserved, "intercede makes it itself while it starts the container"); err != nil {
		return nil, err
	}
	program := assemble(captures)
	if len(program) > maxInstructions {
		return nil, fmt.Errorf("seccomp filter: %d instructions, the kernel takes %d: enable fewer plugins", len(program), maxInstructions)
	}
	return program, nil
}

// assemble makes the program: a block for each value of seccomp_data.arch. Calls that no block mentions are allowed
// whatever their arguments, which the kernel notices when it loads the program, and no longer runs it for them
// (seccomp_cache_prepare, kernel/seccomp.c).
func assemble(captures []*capture) []unix.SockFilter {
	blocks := map[uint32][]unix.SockFilter{}
	for _, a := range architectures {
		for _, c := range captures {
			if nr, ok := c.numbers[a]; ok {
				blocks[a.audit] = append(blocks[a.audit], whenEqual(uint32(nr), c.block(a))...)
			}
		}
	}
	program := []unix.SockFilter{load(offsetArch)}
	for _, a := range architectures {
		if block, ok := blocks[a.audit]; ok {
			delete(blocks, a.audit) // x32's is x86_64's
			block = append([]unix.SockFilter{load(offsetNumber)}, block...)
			program = append(program, whenEqual(a.audit, append(block, giveBack(unix.SECCOMP_RET_ALLOW)))...)
		}
	}
	return append(program, giveBack(unix.SECCOMP_RET_ALLOW))
}

// block decides a call by its arguments.
func (c *capture) block(a architecture) []unix.SockFilter {
	if len(c.matches) == 0 {
		return []unix.SockFilter{giveBack(unix.SECCOMP_RET_USER_NOTIF)}
	}
	var block []unix.SockFilter
	for _, m := range c.matches {
		block = append(block, m.block(a)...)
	}
	return append(block, giveBack(unix.SECCOMP_RET_ALLOW))
}

// block notifies where the match holds, and runs into what follows where it does not.
func (m match) block(a architecture) []unix.SockFilter {
	var block []unix.SockFilter
	for _, c := range m {
		low := uint32(offsetArgs + 8*c.arg)
		block = append(block, compare(low, uint32(c.mask), uint32(c.value))...)
		switch high := uint32(c.value >> 32); {
		case !a.narrow:
			block = append(block, compare(low+4, uint32(c.mask>>32), high)...)
		case high != 0:
			return nil // no register of 32 bits has the value
		}
	}
	block = append(block, giveBack(unix.SECCOMP_RET_USER_NOTIF))
	for i := range block {
		if block[i].Code == jumpEqual {
			block[i].Jf = uint8(len(block) - i - 1)
		}
	}
	return block
}

const jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K

// compare goes on if the word at the offset, masked, is the value. Where it jumps to if not is left open.
func compare(offset, mask, value uint32) []unix.SockFilter {
	if mask == 0 {
		return nil
	}
	return []unix.SockFilter{
		load(offset),
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask},
		{Code: jumpEqual, K: value},
	}
}

// whenEqual runs the block if the accumulator is the value, and else jumps over it.
func whenEqual(value uint32, block []unix.SockFilter) []unix.SockFilter {
	return append([]unix.SockFilter{
		{Code: jumpEqual, Jt: 1, K: value},
		{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(block))},
	}, block...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func giveBack(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
