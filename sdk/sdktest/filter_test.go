package sdktest

import (
	"testing"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

func TestSyscallOf(t *testing.T) {
	manifest := &wire.Manifest{Syscalls: []*wire.Syscall{{Name: "mknod"}, {Name: "mknodat"}}}
	for name, test := range map[string]struct {
		arch sdk.Arch
		nr   int32
		want string
	}{
		"x86_64":               {sdk.ArchX86_64, 133, "mknod"},
		"x86_64 mknodat":       {sdk.ArchX86_64, 259, "mknodat"},
		"i386":                 {sdk.ArchI386, 14, "mknod"},
		"i386 mknodat":         {sdk.ArchI386, 297, "mknodat"},
		"arm64 mknodat":        {sdk.ArchAArch64, 33, "mknodat"},
		"arm64 has no mknod":   {sdk.ArchAArch64, 14, ""},
		"i386's nr on x86_64":  {sdk.ArchX86_64, 14, ""},
		"x32":                  {sdk.ArchX86_64, 133 | 0x40000000, ""},
		"unknown architecture": {1, 133, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := syscallOf(manifest, test.arch, test.nr, 0).GetName(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestBuildFilter(t *testing.T) {
	const ifmt, ifchr, ifblk = 0o170000, 0o020000, 0o060000
	when := func(arg uint32, value uint64) *wire.Match {
		return &wire.Match{All: []*wire.Condition{{Arg: arg, Mask: ifmt, Value: value}}}
	}
	program, err := buildFilter(&wire.Manifest{Syscalls: []*wire.Syscall{
		{Name: "mknod", When: []*wire.Match{when(1, ifchr), when(1, ifblk)}},
		{Name: "mknodat", When: []*wire.Match{when(2, ifchr)}},
		{Name: "sysinfo"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	vm := cbpftest.New(t, program)
	for _, arch := range arches() {
		for name, notified := range map[string]map[[6]uint64]bool{
			"mknod": {{1: ifchr | 0o666}: true, {1: ifblk}: true, {1: 0o666}: false, {2: ifchr}: false,
				{1: 1<<32 | ifchr}: true},
			"mknodat": {{2: ifchr}: true, {2: ifblk}: false, {}: false},
			"sysinfo": {{}: true, {1, 2, 3, 4, 5, 6}: true},
			"getppid": {{}: false, {1: ifchr, 2: ifchr}: false},
		} {
			nr, ok := numbers[arch][name]
			for args, want := range notified {
				if got := vm.Run(uint32(arch), nr, args) == unix.SECCOMP_RET_USER_NOTIF; ok && got != want {
					t.Errorf("%s of %#x with %x is notified: %v, want %v", name, uint32(arch), args, got, want)
				}
			}
		}
	}
	if vm.Run(1, numbers[arches()[0]]["sysinfo"], [6]uint64{}) != unix.SECCOMP_RET_ALLOW {
		t.Error("a call of an unknown architecture is notified")
	}
}
