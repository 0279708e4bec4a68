package limit

import (
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/internal/device"
	"golang.org/x/sys/unix"
)

// As in include/uapi/linux/bpf.h.
const (
	deviceBlock = 1
	deviceChar  = 2
)

// AllowDevices lets the tasks of a cgroup of version 2 make and open the device nodes that the rules name, and no
// others, for as long as the cgroup lives, even if this process does not (BPF_CGROUP_DEVICE, bpf(2)). Programs of the
// cgroups above it apply too.
func (g *Group) AllowDevices(rules []device.Rule) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "intercede_dev", Type: ebpf.CGroupDevice, Instructions: deviceProgram(rules), License: "Apache-2.0",
	})
	if err != nil {
		return fmt.Errorf("load a program that limits devices (bpf(2), BPF_CGROUP_DEVICE): %w", err)
	}
	defer program.Close()
	dir, err := os.OpenFile(g.Dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(dir.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	}); err != nil {
		return fmt.Errorf("attach a program that limits devices (bpf(2), BPF_CGROUP_DEVICE): %w", err)
	}
	return nil
}

// Registers of deviceProgram.
const (
	regType   = asm.R2
	regAccess = asm.R3
	regMajor  = asm.R4
	regMinor  = asm.R5
	regWork   = asm.R6
)

// deviceProgram gets a struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | type), major, minor.
func deviceProgram(rules []device.Rule) asm.Instructions {
	program := asm.Instructions{
		asm.LoadMem(regType, asm.R1, 0, asm.Word),
		asm.Mov.Reg(regAccess, regType),
		asm.RSh.Imm(regAccess, 16),
		asm.And.Imm(regType, 0xffff),
		asm.LoadMem(regMajor, asm.R1, 4, asm.Word),
		asm.LoadMem(regMinor, asm.R1, 8, asm.Word),
	}
	for i, rule := range rules {
		program = append(program, instructions(rule, fmt.Sprintf("rule%d", i), fmt.Sprintf("rule%d", i+1))...)
	}
	program = append(program,
		asm.Mov.Imm(asm.R0, 0).WithSymbol(fmt.Sprintf("rule%d", len(rules))),
		asm.Return(),
	)
	if len(rules) == 0 {
		return program // the verifier takes no code that is never reached
	}
	return append(program,
		asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"),
		asm.Return(),
	)
}

// instructions allow what the rule names, and go on at next with all else.
func instructions(r device.Rule, name, next string) asm.Instructions {
	kind := int32(deviceChar)
	if r.Block {
		kind = deviceBlock
	}
	block := asm.Instructions{asm.JNE.Imm(regType, kind, next).WithSymbol(name)}
	if r.Major != device.Any {
		block = append(block, asm.JNE.Imm(regMajor, int32(r.Major), next))
	}
	if r.Minor != device.Any {
		block = append(block, asm.JNE.Imm(regMinor, int32(r.Minor), next))
	}
	return append(block,
		asm.Mov.Reg(regWork, regAccess),
		asm.And.Imm(regWork, ^int32(r.Access)),
		asm.JEq.Imm(regWork, 0, "allow"),
	)
}

// AllowDevicesV1 is AllowDevices for a cgroup of the devices controller of version 1.
func (g *Group) AllowDevicesV1(rules []device.Rule) error {
	if err := g.write("devices.deny", "a"); err != nil {
		return fmt.Errorf("deny all devices: %w", err)
	}
	for _, rule := range rules {
		if err := g.write("devices.allow", rule.String()); err != nil {
			return fmt.Errorf("allow device %s: %w", rule, err)
		}
	}
	return nil
}
