package filter

import (
	"runtime"
	"slices"
	"testing"

	"github.com/intercede/intercede/internal/wire"
	"github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// compat is a call whose callers of other ABIs get this.
func compat(c wire.Compat, name string, matches ...*wire.Match) *wire.Syscall {
	s := takes(name, matches...)
	s.Compat = c
	return s
}

const (
	refused   = wire.Compat_COMPAT_REFUSE
	continues = wire.Compat_COMPAT_CONTINUE
)

// isCompat reports whether a call that is not native, or i386's multiplexers, is one of a manifest's that says what
// happens to those: libseccomp notifies more of them than was asked for, and the broker lets the kernel have those.
func isCompat(manifests []*wire.Manifest, c call) bool {
	if wire.IsMultiplexed(c.arch, c.nr) {
		return true
	}
	return !wire.IsNative(c.arch, c.nr) && slices.ContainsFunc(manifests, func(m *wire.Manifest) bool {
		return slices.ContainsFunc(m.GetSyscalls(), func(s *wire.Syscall) bool {
			if s.GetCompat() == wire.Compat_COMPAT_TAKE {
				return false
			}
			return slices.ContainsFunc(architectures, func(a architecture) bool {
				nr, ok := a.number(s.GetName())
				return ok && a.audit == c.arch && nr == c.nr
			})
		})
	})
}

// isBehind reports whether a call by the multiplexer is one that a manifest has, and does not refuse.
func isBehind(manifests []*wire.Manifest, multiplexer string, first uint64) bool {
	return slices.ContainsFunc(manifests, func(m *wire.Manifest) bool {
		return slices.ContainsFunc(m.GetSyscalls(), func(s *wire.Syscall) bool {
			m, ok := wire.MultiplexerOf(s.GetName())
			return ok && m.Name == multiplexer && uint32(first)&m.Mask == m.Value && s.GetCompat() == continues
		})
	})
}

const (
	amd64 = unix.AUDIT_ARCH_X86_64
	i386  = unix.AUDIT_ARCH_I386
)

// compatCalls are native calls of the manifest native, and others, with what the program of `intercede run` does.
var compatCalls = []struct {
	name string
	call call
	want uint32
}{
	{"connect", call{amd64, 42, [6]uint64{3, 1, 2}}, notify},
	{"connect of x32", call{amd64, x32Bit | 42, [6]uint64{3}}, notify},
	{"connect of i386", call{i386, 362, [6]uint64{4}}, notify},
	{"connect by socketcall", call{i386, 102, [6]uint64{3}}, notify},
	{"connect by socketcall, garbage above", call{i386, 102, [6]uint64{0xdead0000_00000003}}, notify},
	{"another by socketcall", call{i386, 102, [6]uint64{2}}, allow},
	{"none by socketcall", call{i386, 102, [6]uint64{0x10003}}, allow},
	{"sendmsg", call{amd64, 46, [6]uint64{2: 1}}, notify},
	{"sendmsg without the flag", call{amd64, 46, [6]uint64{}}, allow},
	{"sendmsg of i386", call{i386, 370, [6]uint64{2: 1}}, notify},
	{"sendmsg by socketcall", call{i386, 102, [6]uint64{16}}, notify},
	{"listen", call{amd64, 50, [6]uint64{}}, notify},
	{"listen of i386", call{i386, 363, [6]uint64{}}, allow},
	{"listen of x32", call{amd64, x32Bit | 50, [6]uint64{}}, allow},
	{"listen by socketcall", call{i386, 102, [6]uint64{4}}, allow},
	{"accept", call{amd64, 43, [6]uint64{}}, notify},
	{"accept by socketcall, which has no number of its own", call{i386, 102, [6]uint64{5}}, notify},
	{"semget", call{amd64, 64, [6]uint64{}}, notify},
	{"semget by ipc", call{i386, 117, [6]uint64{2}}, notify},
	{"semget by ipc of a version", call{i386, 117, [6]uint64{0x10002}}, notify},
	{"semop by ipc", call{i386, 117, [6]uint64{1}}, allow},
	{"one that no multiplexer has", call{amd64, 170, [6]uint64{}}, notify},
	{"one that no multiplexer has, of i386", call{i386, 74, [6]uint64{}}, allow},
}

var native = plugin("native", compat(refused, "connect"), compat(refused, "sendmsg", when(2, 1, 1)), compat(continues, "listen"),
	compat(refused, "accept"), compat(refused, "semget"), compat(continues, "sethostname"))

func orAllow(base []byte) []byte {
	if base == nil {
		return []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]}`)
	}
	return base
}

// TestMultiplexed compares the table with libseccomp's, which numbers such calls below -100 and -200 by what the
// multiplexers call them.
func TestMultiplexed(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return
	}
	for nr := int32(0); nr < 512; nr++ {
		name, err := seccomp.ScmpSyscall(nr).GetName()
		if err != nil {
			continue
		}
		pseudo, err := seccomp.GetSyscallFromNameByArch(name, seccomp.ArchX86)
		if err != nil {
			continue
		}
		m, multiplexed := wire.MultiplexerOf(name)
		switch n := -int32(pseudo); {
		case n >= 101 && n <= 120:
			if m.Name != "socketcall" || m.Value != uint32(n-100) {
				t.Errorf("%s: %+v, want %d of socketcall", name, m, n-100)
			}
		case n >= 201 && n <= 224:
			if m.Name != "ipc" || m.Value != uint32(n-200) {
				t.Errorf("%s: %+v, want %d of ipc", name, m, n-200)
			}
		case multiplexed:
			t.Errorf("%s: %+v, and libseccomp has %d", name, m, pseudo)
		}
	}
	for _, table := range []struct {
		nr   int32
		want string
	}{{102, "socketcall"}, {117, "ipc"}} {
		if nr, ok := architectures[1].number(table.want); !ok || nr != table.nr || !wire.IsMultiplexed(i386, nr) {
			t.Errorf("%s: %d, %v", table.want, nr, ok)
		}
	}
}
