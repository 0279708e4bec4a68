package broker

import (
	"testing"

	"github.com/intercede/intercede/internal/notify"
	"github.com/intercede/intercede/internal/wire"
	"golang.org/x/sys/unix"
)

// TestAdmits is for what a plugin is shown of calls that are not native; cmd/intercede has programs that make them.
func TestAdmits(t *testing.T) {
	const (
		take, refuse, pass = wire.Compat_COMPAT_TAKE, wire.Compat_COMPAT_REFUSE, wire.Compat_COMPAT_CONTINUE
		amd64, i386        = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	)
	flag := []*wire.Match{{All: []*wire.Condition{{Arg: 1, Mask: 1, Value: 1}}}}
	for name, test := range map[string]struct {
		syscall *wire.Syscall
		arch    uint32
		nr      int32
		first   uint64
		want    wire.Compat
	}{
		"native":                            {&wire.Syscall{Compat: refuse, When: flag}, amd64, 42, 1, take},
		"native, not wanted":                {&wire.Syscall{Compat: refuse, When: flag}, amd64, 42, 0, pass},
		"i386, taken":                       {&wire.Syscall{When: flag}, i386, 362, 1, take},
		"i386, refused":                     {&wire.Syscall{Compat: refuse, When: flag}, i386, 362, 1, refuse},
		"i386, refused but not wanted":      {&wire.Syscall{Compat: refuse, When: flag}, i386, 362, 0, pass},
		"i386, left alone":                  {&wire.Syscall{Compat: pass}, i386, 362, 1, pass},
		"x32":                               {&wire.Syscall{Compat: refuse}, amd64, 0x40000000 | 42, 1, refuse},
		"multiplexed: nobody sees the flag": {&wire.Syscall{Compat: refuse, When: flag}, i386, 102, 0, refuse},
		"multiplexed, left alone":           {&wire.Syscall{Compat: pass, When: flag}, i386, 117, 1, pass},
		"the multiplexer itself":            {&wire.Syscall{When: flag}, i386, 102, 0, pass},
		"the multiplexer itself, wanted":    {&wire.Syscall{When: flag}, i386, 102, 1, take},
	} {
		t.Run(name, func(t *testing.T) {
			n := &notify.Notification{Arch: test.arch, NR: test.nr, Args: [6]uint64{1: test.first}}
			if got := (route{syscall: test.syscall}).admits(n); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
