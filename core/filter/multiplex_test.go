package filter

import (
	"math/rand/v2"
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

func TestProgramCompat(t *testing.T) {
	requireAMD64(t)
	v := mustProgram(t, native)
	for _, test := range compatCalls {
		t.Run(test.name, func(t *testing.T) {
			if got := run(v, test.call); got != test.want {
				t.Errorf("%#x, want %#x", got, test.want)
			}
		})
	}
}

// TestProgramCompatOfTwo has one plugin that takes the callers of all ABIs, beside one that does not.
func TestProgramCompatOfTwo(t *testing.T) {
	requireAMD64(t)
	v := mustProgram(t, plugin("a", compat(continues, "sethostname")), plugin("b", takes("sethostname")))
	if got := run(v, call{i386, 74, [6]uint64{}}); got != notify {
		t.Errorf("%#x", got)
	}
}

func TestResolveCompat(t *testing.T) {
	requireAMD64(t)
	routes, err := Resolve([]*wire.Manifest{native})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		call call
		want string
	}{
		{call{amd64, 42, [6]uint64{}}, "connect"}, {call{amd64, x32Bit | 42, [6]uint64{}}, "connect"},
		{call{i386, 362, [6]uint64{}}, "connect"},
		{call{i386, 102, [6]uint64{3}}, "connect"}, {call{i386, 102, [6]uint64{1<<40 | 16}}, "sendmsg"},
		{call{i386, 102, [6]uint64{5}}, "accept"},
		{call{i386, 102, [6]uint64{4}}, ""}, {call{i386, 102, [6]uint64{0}}, ""}, {call{i386, 102, [6]uint64{0x10003}}, ""},
		{call{i386, 117, [6]uint64{2}}, "semget"}, {call{i386, 117, [6]uint64{0x70002}}, "semget"}, {call{i386, 117, [6]uint64{3}}, ""},
		{call{amd64, 50, [6]uint64{}}, "listen"}, {call{i386, 363, [6]uint64{}}, ""}, {call{amd64, 102, [6]uint64{3}}, ""},
	} {
		if name, ok := routes.Name(test.call.arch, test.call.nr, test.call.args[0]); name != test.want || ok != (test.want != "") {
			t.Errorf("%+v: %q, %v, want %q", test.call, name, ok, test.want)
		}
	}
}

func TestCompatRefuses(t *testing.T) {
	requireAMD64(t)
	_, err := Resolve([]*wire.Manifest{plugin("whole", takes("socketcall")), plugin("part", compat(refused, "connect"))})
	wantError(t, err, "plugin whole takes socketcall whole, and plugin part refuses i386 programs connect")
	_, err = Resolve([]*wire.Manifest{plugin("p", compat(refused, "umount"))})
	wantError(t, err, "plugin p: syscall umount: 64-bit programs have no such call")
	_, err = LXC(nil, []*wire.Manifest{plugin("p", compat(refused, "semget"))})
	wantError(t, err, "plugin p", "LXC cannot refuse", "ipc(2)")
	_, err = LXC(nil, []*wire.Manifest{plugin("p", compat(refused, "sendmsg"))})
	wantError(t, err, "plugin p", "sendmsg", "LXC makes it itself")
	for _, others := range [][]*wire.Syscall{{compat(refused, "connect", when(0, 1, 1))},
		{compat(continues, "recvfrom", when(0, 1, 1)), compat(refused, "connect")}} {
		manifests := []*wire.Manifest{plugin("p", others...)}
		_, err = LXC(nil, manifests)
		wantError(t, err, "plugin p", "syscall "+others[0].GetName(), "leave out the conditions")
		_, err = OCI(nil, manifests, listener)
		wantError(t, err, "plugin p", "syscall "+others[0].GetName(), "leave out the conditions")
	}
	for _, s := range []*wire.Syscall{compat(refused, "connect"), compat(continues, "connect", when(0, 1, 1)), compat(continues, "semget")} {
		if _, err := LXC(nil, []*wire.Manifest{plugin("p", s)}); err != nil {
			t.Error(err)
		}
	}
	if _, err := Resolve([]*wire.Manifest{plugin("whole", takes("socketcall")), plugin("part", compat(continues, "connect"))}); err != nil {
		t.Error(err)
	}
}

// TestOCICompat holds profiles to what matters of native-only calls, as runtimes compile them: native ones are
// notified, and so is each way of i386 programs to a call that is refused to them. What libseccomp notifies beyond
// that the broker leaves to the kernel.
func TestOCICompat(t *testing.T) {
	requireAMD64(t)
	manifest := plugin("native", slices.DeleteFunc(slices.Clone(native.GetSyscalls()), func(s *wire.Syscall) bool {
		return slices.Contains(startup, s.GetName())
	})...)
	routes, err := Resolve([]*wire.Manifest{manifest})
	if err != nil {
		t.Fatal(err)
	}
	for name, base := range map[string][]byte{
		"none": nil, "podman": readFile(t, "testdata/containers-default.json"), "docker": readFile(t, "testdata/moby-default.json"),
		"without a rule for multiplexers": []byte(`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
			"syscalls": [{"names": ["connect", "listen", "sendto"], "action": "SCMP_ACT_ALLOW"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			profile, err := OCI(base, []*wire.Manifest{manifest}, listener)
			if err != nil {
				t.Fatal(err)
			}
			v := mustCompile(t, profile, nil)
			for _, test := range compatCalls {
				if called, taken := routes.Name(test.call.arch, test.call.nr, test.call.args[0]); taken && test.want == notify && called != "sendmsg" {
					if got := run(v, test.call); got != notify {
						t.Errorf("%s: %#x, want %#x", test.name, got, notify)
					}
				}
			}
			checkMerge(t, rand.New(rand.NewPCG(1, 2)), append([]byte(nil), orAllow(base)...), profile, []*wire.Manifest{manifest}, nil)
			again, err := OCI(profile, []*wire.Manifest{manifest}, listener)
			if err != nil || string(again) != string(profile) {
				t.Errorf("made anew: %v\n%s\nwas\n%s", err, again, profile)
			}
		})
	}
}

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
