package main

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
)

// TestSystemd makes the calls of systemd 252 for a unit with DevicePolicy=strict and DeviceAllow=/dev/zero rw (bpf-program.c,
// bpf-devices.c), with attrs of its own header's size: a trivial program to see whether there are any, the unit's, attached
// with BPF_F_ALLOW_MULTI, the unit's again after a change, before the old one goes.
func TestSystemd(t *testing.T) {
	strict := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.And.Imm32(asm.R2, 0xffff),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Word),
		asm.RSh.Imm32(asm.R3, 16),
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
		asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
		asm.Mov.Reg32(asm.R1, asm.R3),
		asm.And.Imm32(asm.R1, 6),
		asm.JNE.Reg(asm.R1, asm.R3, "deny"),
		asm.JNE.Imm(asm.R2, 2, "deny"),
		asm.JNE.Imm(asm.R4, 1, "deny"),
		asm.JNE.Imm(asm.R5, 5, "deny"),
		asm.Ja.Label("allow"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("deny"),
		asm.Ja.Label("exit"),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"),
		asm.Return().WithSymbol("exit"),
	}
	fields := map[string]string{
		"license": "p=s:GPL", "prog_name": "8=0x636976656473,8=0",
		"more": "8=0" + strings.Repeat(",8=0", 8), "size": "144",
	}
	rest := strings.Repeat(",8=0", 15) + " 144"
	const attach, detach = "sys bpf 8 struct:", "sys bpf 9 struct:"
	newPair(t).compare(t, scripted{[]string{
		"sys " + loadWith(always(1), fields),
		"do close 3",
		"fd " + loadWith(strict, fields),
		"open /top/own O_RDONLY|O_DIRECTORY|O_CLOEXEC",
		attach + "4=4,4=3,4=6,4=2,4=0,4=0" + rest,
		openNull,
		"fd " + loadWith(strict, fields),
		attach + "4=4,4=5,4=6,4=2,4=0,4=0" + rest,
		detach + "4=4,4=3,4=6,4=0,4=0,4=0" + rest,
		openNull,
		detach + "4=4,4=5,4=6,4=0,4=0,4=0" + rest,
		openNull,
	}, "ok ok EPERM ok ok EPERM ok ok", "addfd addfd value addfd value value value"})
}
