package run

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// deviceRule is a device node that a container may open. Making nodes is not limited by it: user namespaces and plugins
// decide that.
type deviceRule struct {
	block        bool
	major, minor int64 // anyNumber: all
	access       int32 // BPF_DEVCG_ACC_READ, BPF_DEVCG_ACC_WRITE
}

const (
	anyNumber = -1

	// As in include/uapi/linux/bpf.h.
	deviceMknod = 1
	deviceRead  = 2
	deviceWrite = 4
	deviceBlock = 1
	deviceChar  = 2
)

// usualDevices are those that every container may open, as OCI runtimes have it: null, zero, full, random, urandom,
// tty, ptmx, and terminals of devpts.
var usualDevices = []deviceRule{
	{major: 1, minor: 3, access: deviceRead | deviceWrite},
	{major: 1, minor: 5, access: deviceRead | deviceWrite},
	{major: 1, minor: 7, access: deviceRead | deviceWrite},
	{major: 1, minor: 8, access: deviceRead | deviceWrite},
	{major: 1, minor: 9, access: deviceRead | deviceWrite},
	{major: 5, minor: 0, access: deviceRead | deviceWrite},
	{major: 5, minor: 2, access: deviceRead | deviceWrite},
	{major: 136, minor: anyNumber, access: deviceRead | deviceWrite},
}

var deviceRuleText = regexp.MustCompile(`^([bc]) ([0-9]+|\*):([0-9]+|\*) ([rwm]+)$`)

// parseDeviceRules reads rules as podman's --device-cgroup-rule has them: "c 10:229 rwm". An "m" is not needed.
func parseDeviceRules(texts []string) ([]deviceRule, error) {
	var rules []deviceRule
	for _, text := range texts {
		parts := deviceRuleText.FindStringSubmatch(text)
		if parts == nil {
			return nil, fmt.Errorf("device rule %q: want TYPE MAJOR:MINOR ACCESS, such as \"c 10:229 rw\": TYPE is c or b, a number may be *, ACCESS has r, w, m", text)
		}
		major, err1 := deviceNumber(parts[2], 12)
		minor, err2 := deviceNumber(parts[3], 20)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("device rule %q: %w", text, err)
		}
		rule := deviceRule{block: parts[1] == "b", major: major, minor: minor}
		if strings.Contains(parts[4], "r") {
			rule.access |= deviceRead
		}
		if strings.Contains(parts[4], "w") {
			rule.access |= deviceWrite
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// deviceNumber reads a major or minor, which have 12 and 20 bits in the kernel (include/linux/kdev_t.h).
func deviceNumber(text string, bits int) (int64, error) {
	if text == "*" {
		return anyNumber, nil
	}
	number, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%s is no device number of %d bits", text, bits)
	}
	return int64(number), nil
}

// limitDevices lets the cgroup's tasks open what the rules and usualDevices name. The root filesystem may have device
// nodes, of the host or of an image, which the container's root could open otherwise.
func (g *group) limitDevices(rules []deviceRule) error {
	if err := g.attachDevices(deviceProgram(slices.Concat(usualDevices, rules))); err != nil {
		return fmt.Errorf("limit the devices of the container (bpf(2), BPF_CGROUP_DEVICE): %w", err)
	}
	return nil
}

// attachDevices attaches for as long as the cgroup lives, even if this process does not.
func (g *group) attachDevices(instructions asm.Instructions) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "intercede_run", Type: ebpf.CGroupDevice, Instructions: instructions, License: "Apache-2.0"})
	if err != nil {
		return err
	}
	defer program.Close()
	dir, err := os.OpenFile(g.dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(dir.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	})
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
func deviceProgram(rules []deviceRule) asm.Instructions {
	program := asm.Instructions{
		asm.LoadMem(regType, asm.R1, 0, asm.Word),
		asm.Mov.Reg(regAccess, regType),
		asm.RSh.Imm(regAccess, 16),
		asm.And.Imm(regType, 0xffff),
		asm.LoadMem(regMajor, asm.R1, 4, asm.Word),
		asm.LoadMem(regMinor, asm.R1, 8, asm.Word),
		asm.JEq.Imm(regAccess, deviceMknod, "allow"),
	}
	for i, rule := range rules {
		program = append(program, rule.instructions(fmt.Sprintf("rule%d", i), fmt.Sprintf("rule%d", i+1))...)
	}
	return append(program,
		asm.Mov.Imm(asm.R0, 0).WithSymbol(fmt.Sprintf("rule%d", len(rules))),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"),
		asm.Return(),
	)
}

// instructions allow what the rule names, and go on at next with all else.
func (r deviceRule) instructions(name, next string) asm.Instructions {
	kind := int32(deviceChar)
	if r.block {
		kind = deviceBlock
	}
	block := asm.Instructions{asm.JNE.Imm(regType, kind, next).WithSymbol(name)}
	if r.major != anyNumber {
		block = append(block, asm.JNE.Imm(regMajor, int32(r.major), next))
	}
	if r.minor != anyNumber {
		block = append(block, asm.JNE.Imm(regMinor, int32(r.minor), next))
	}
	return append(block,
		asm.Mov.Reg(regWork, regAccess),
		asm.And.Imm(regWork, ^r.access),
		asm.JEq.Imm(regWork, 0, "allow"),
	)
}
