package bpf

import (
	"testing"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

func TestCheckProgram(t *testing.T) {
	for name, c := range map[string]struct {
		program asm.Instructions
		ok      bool
	}{
		"constant":        {always(1), true},
		"deny null":       {denyNull, true},
		"64-bit constant": {asm.Instructions{asm.LoadImm(asm.R0, 1<<40, asm.DWord), asm.Return()}, true},
		"uid":             {asm.Instructions{asm.FnGetCurrentUidGid.Call(), asm.Return()}, true},
		"own function":    {asm.Instructions{asm.Call.Label("f"), asm.Return(), asm.Mov.Imm(asm.R0, 1).WithSymbol("f"), asm.Return()}, true},
		"map":             {asm.Instructions{asm.LoadMapPtr(asm.R1, 3), asm.Return()}, false},
		"map value":       {asm.Instructions{asm.LoadMapValue(asm.R1, 3, 0), asm.Return()}, false},
		"set_retval":      {asm.Instructions{asm.FnSetRetval.Call(), asm.Return()}, false},
		"trace_printk":    {asm.Instructions{asm.FnTracePrintk.Call(), asm.Return()}, false},
		"function 0":      {asm.Instructions{asm.BuiltinFunc(0).Call(), asm.Return()}, false},
		"kernel function": {asm.Instructions{{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call),
			Src: asm.PseudoKfuncCall, Constant: 1}, asm.Return()}, false},
		"callback": {asm.Instructions{{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R1, Src: asm.PseudoFunc, Constant: 1}, asm.Return()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkProgram(marshal(c.program)); (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := checkProgram([]byte{opMayGoto, 0, 0, 0, 0, 0, 0, 0}); err == nil {
		t.Error("may_goto is taken")
	}
}

// FuzzCheckProgram holds what is taken against a second reading of the instructions.
func FuzzCheckProgram(f *testing.F) {
	f.Add(marshal(denyNull))
	f.Add(marshal(asm.Instructions{asm.LoadMapPtr(asm.R1, 3), asm.FnSetRetval.Call(), asm.Return()}))
	f.Fuzz(func(t *testing.T, insns []byte) {
		if checkProgram(insns) != nil {
			return
		}
		for i := 0; i+insnSize <= len(insns); i += insnSize {
			source := insns[i+1] >> 4
			if insns[i] == 0x18 && source != 0 || insns[i] == 0xe5 {
				t.Errorf("instruction %d: %x", i/insnSize, insns[i:i+insnSize])
			}
			if insns[i] == 0x85 && source != 1 && (source != 0 || insns[i+4] == 187) {
				t.Errorf("instruction %d: %x", i/insnSize, insns[i:i+insnSize])
			}
		}
	})
}

func TestOverrides(t *testing.T) {
	for name, c := range map[string]struct {
		above attached
		want  bool
	}{
		"nothing":  {attached{}, false},
		"multi":    {attached{multi, []uint32{1, 2}}, false},
		"override": {attached{unix.BPF_F_ALLOW_OVERRIDE, []uint32{1}}, true},
		"none":     {attached{0, []uint32{1}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := overrides(c.above); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestWritten(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "\x00\x00": "", "ab": "ab", "ab\x00": "ab\x00", "ab\x00\x00\x00": "ab\x00", "a\x00b\x00\x00": "a\x00b\x00",
	} {
		if got := written([]byte(text)); string(got) != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
