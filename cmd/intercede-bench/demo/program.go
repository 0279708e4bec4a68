package demo

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/cmd/intercede-bench/caller"
	"golang.org/x/sys/unix"
)

// deviceProgram loads a device program. What is shown is more: the program refuses null(4), and is attached to the
// container's own cgroup for a moment.
func deviceProgram() caller.Call {
	call := caller.LoadDeviceProgram()
	call.Show = func() string {
		text, err := refuseNull()
		var errno unix.Errno
		switch {
		case errors.As(err, &errno):
			return unix.ErrnoName(errno)
		case err != nil:
			return err.Error()
		}
		return text
	}
	return call
}

// refuseNull reports whether null(4) is refused while the program is attached.
func refuseNull() (string, error) {
	const dir = "/tmp/cgroup"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		return "", fmt.Errorf("mount cgroup2: %w", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	cgroup, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer cgroup.Close()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "Apache-2.0", Instructions: refusing(1, 3)})
	if err != nil {
		return "", err
	}
	defer program.Close()
	options := link.RawAttachProgramOptions{
		Target: int(cgroup.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	}
	if err := link.RawAttachProgram(options); err != nil {
		return "", err
	}
	null, openErr := os.Open("/dev/null")
	if openErr == nil {
		null.Close()
	}
	err = link.RawDetachProgram(link.RawDetachProgramOptions{Target: int(cgroup.Fd()), Program: program, Attach: ebpf.AttachCGroupDevice})
	if !errors.Is(openErr, unix.EPERM) {
		return fmt.Sprintf("attached, and /dev/null gives %v", openErr), err
	}
	return "attached: /dev/null is refused", err
}

// refusing are the instructions of a program that refuses one device and allows all others; its context is struct
// bpf_cgroup_dev_ctx (include/uapi/linux/bpf.h).
func refusing(major, minor int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R0, 1),
		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word),
		asm.JNE.Imm(asm.R2, major, "end"),
		asm.LoadMem(asm.R2, asm.R1, 8, asm.Word),
		asm.JNE.Imm(asm.R2, minor, "end"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return().WithSymbol("end"),
	}
}
