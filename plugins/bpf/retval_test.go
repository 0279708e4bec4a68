package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/intercede/intercede/sdk/sdktest"
)

// TestTakenBack shows why programs may not call bpf_set_retval: the host's root attaches one that does beside one that
// denies.
func TestTakenBack(t *testing.T) {
	sdktest.RequireKernel(t, "5.18", "bpf_set_retval")
	tr := newTree(t)
	c := tr.container(t, nil)
	tr.attachAsHost(t, "own", 0, multi)
	checkErrnos(t, c, "EPERM", openNull)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupDevice, AttachType: ebpf.AttachCGroupDevice, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R1, 0), asm.FnSetRetval.Call(), asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(tr.open(t, "own").Fd()), Program: program, Attach: ebpf.AttachCGroupDevice, Flags: multi,
	})
	if err != nil {
		t.Fatal(err)
	}
	checkErrnos(t, c, "ok", openNull)
}
