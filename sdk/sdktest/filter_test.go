package sdktest

import (
	"testing"

	"github.com/intercede/intercede/sdk"
	"github.com/intercede/intercede/sdk/proto"
)

func TestSyscallOf(t *testing.T) {
	manifest := &proto.Manifest{Syscalls: []*proto.Syscall{{Name: "mknod"}, {Name: "mknodat"}}}
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

func TestOlderThan(t *testing.T) {
	for name, test := range map[string]struct {
		release, version string
		want             bool
	}{
		"same":           {"6.9.0-generic", "6.9", false},
		"minor below":    {"6.8.12", "6.9", true},
		"minor above":    {"6.18.0", "6.9", false},
		"major below":    {"5.19.1", "6.1", true},
		"major above":    {"6.1.0", "5.19", false},
		"release of two": {"7.0-rc1", "6.9", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := olderThan(test.release, test.version); got != test.want || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	if _, err := olderThan("6.1", "six"); err == nil {
		t.Error(`"six" is a version`)
	}
}
