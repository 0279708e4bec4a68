package sdktest

import (
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
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
			if got := syscallOf(manifest, test.arch, test.nr).GetName(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
