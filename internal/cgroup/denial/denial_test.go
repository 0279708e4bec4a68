package denial

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/intercede/intercede/internal/cgroup"
	"github.com/intercede/intercede/internal/cgroup/limit"
	"github.com/intercede/intercede/internal/device"
	"github.com/intercede/intercede/internal/require"
)

// begin is how all device programs of the runtimes begin.
var begin = asm.Instructions{
	asm.LoadMem(asm.R2, asm.R1, 0, asm.Half),
	asm.LoadMem(asm.R3, asm.R1, 0, asm.Word),
	asm.RSh.Imm32(asm.R3, 16),
	asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
	asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
}

// rule is a rule of runc's, for a kind of devices (0: all), an access (0: all) and a major number (-1: all).
func rule(kind, access, major, result int32) asm.Instructions {
	var tests asm.Instructions
	if major >= 0 {
		tests = append(tests, jumpUnless(asm.R4, major, 2))
	}
	if access != 0 {
		n := int16(2 + len(tests))
		tests = append(asm.Instructions{
			asm.Mov.Reg32(asm.R1, asm.R3), asm.And.Imm32(asm.R1, access),
			{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.JNE).SetSource(asm.RegSource), Dst: asm.R1, Src: asm.R3, Offset: n},
		}, tests...)
	}
	if kind != 0 {
		tests = append(asm.Instructions{jumpUnless(asm.R2, kind, int16(2+len(tests)))}, tests...)
	}
	return append(tests, asm.Mov.Imm32(asm.R0, result), asm.Return())
}

func jumpUnless(register asm.Register, constant int32, offset int16) asm.Instruction {
	return asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.JNE), Dst: register, Constant: int64(constant), Offset: offset}
}

func program(parts ...asm.Instructions) asm.Instructions {
	whole := append(asm.Instructions{}, begin...)
	for _, p := range parts {
		whole = append(whole, p...)
	}
	return whole
}

func TestCodeDenies(t *testing.T) {
	deny, allow := rule(0, 0, -1, 0), rule(0, 0, -1, 1)
	for name, test := range map[string]struct {
		program asm.Instructions
		want    bool
	}{
		"deny all":               {program(deny), true},
		"allow all":              {program(allow), false},
		"allow one":              {program(rule(char, 0, 1, 1), deny), true},
		"allow to make all":      {program(rule(char, 1, -1, 1), rule(block, 1, -1, 1), deny), true},
		"allow all of a kind":    {program(rule(block, 0, -1, 1), deny), false},
		"allow to read all":      {program(rule(char, read|1, -1, 1), deny), false},
		"deny one":               {program(rule(block, 0, 8, 0), allow), false},
		"deny all of one kind":   {program(rule(block, 0, -1, 0), allow), false},
		"deny two kinds":         {program(rule(block, 0, -1, 0), rule(char, 0, -1, 0), allow), true},
		"no end":                 {begin, false},
		"numbers that are moved": {program(asm.Instructions{asm.Add.Imm(asm.R4, 1)}, deny), false},
		"numbers that are less": {program(asm.Instructions{
			{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.JLT), Dst: asm.R4, Constant: 100, Offset: 2}}, deny, allow), false},
		"a call": {program(asm.Instructions{asm.FnGetCurrentPidTgid.Call()}, deny), false},
		"both the same": {program(asm.Instructions{{
			OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.JEq).SetSource(asm.RegSource), Dst: asm.R4, Src: asm.R5, Offset: 2,
		}}, deny, allow), false},
		"a loop":                {program(asm.Instructions{{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja), Offset: -1}}), false},
		"out of the program":    {program(asm.Instructions{{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Ja), Offset: 99}}), false},
		"the context as result": {program(asm.Instructions{asm.Mov.Reg(asm.R0, asm.R1), asm.Return()}), false},
	} {
		if got := codeDenies(test.program); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestDenies asks real cgroups of both versions: that of version 1 does not count.
func TestDenies(t *testing.T) {
	require.Root(t)
	folders, err := cgroup.OwnFolders()
	if err != nil {
		t.Fatal(err)
	}
	cgroups, err := cgroup.Read("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := device.ParseRules([]string{"c 1:3 rw", "c *:* m", "b 7:* rwm"})
	if err != nil {
		t.Fatal(err)
	}
	own := limit.OwnV2(folders)
	if own == nil {
		require.Lacking(t, "needs device cgroups of version 2")
	}
	path := filepath.Join(cgroups[""], "denial-test")
	g := makeGroup(t, own)
	expect(t, path, false)
	if v1 := limit.OwnV1(folders, "devices"); v1 != nil {
		if err := makeGroup(t, v1).AllowDevicesV1(rules); err != nil {
			t.Fatal(err)
		}
		expect(t, path, false)
	}
	if err := g.AllowDevices(rules); err != nil {
		t.Fatal(err)
	}
	expect(t, path, true)
	child := filepath.Join(g.Dir, "child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(child)
	expect(t, filepath.Join(path, "child"), true)
	expect(t, "", false)
}

func makeGroup(t *testing.T, parent *cgroup.Folder) *limit.Group {
	t.Helper()
	g, err := limit.Make(parent.Path, "denial-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Remove() })
	return g
}

func expect(t *testing.T, path string, want bool) {
	t.Helper()
	if denies, err := Denies(path); err != nil || denies != want {
		t.Errorf("cgroup %q: %v, %v, want %v", path, denies, err, want)
	}
}
