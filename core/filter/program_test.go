package filter

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"github.com/intercede/intercede/internal/wire"
)

func mustProgram(t testing.TB, manifests ...*wire.Manifest) cbpftest.VM {
	t.Helper()
	program, err := Program(manifests, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cbpftest.New(t, program)
}

func TestProgramRefusesReservedCalls(t *testing.T) {
	_, err := Program([]*wire.Manifest{mknodPlugin, plugin("a", takes("sendmmsg_")), plugin("b", takes("execve")),
		plugin("c", takes("execve"))}, []string{"execve"})
	wantError(t, err, "plugin a")
	_, err = Program([]*wire.Manifest{mknodPlugin, plugin("b", takes("execve")), plugin("c", takes("execve"))}, []string{"execve"})
	wantError(t, err, "plugin b, c: syscall execve cannot be intercepted")
}

func checkRandomProgram(t *testing.T, random *rand.Rand) {
	manifests := []*wire.Manifest{randomPlugin(random, "a"), randomPlugin(random, "b")}
	captures, err := collect(manifests)
	if err != nil {
		t.Fatal(err)
	}
	v := mustProgram(t, manifests...)
	for _, c := range captures {
		for a, nr := range c.numbers {
			for _, args := range samples(random, c.matches) {
				if a.narrow {
					for i := range args {
						args[i] &= 0xffffffff
					}
				}
				want := allow
				if holds(manifests, c.name, args) {
					want = notify
				}
				if got := run(v, call{a.audit, nr, args}); got != want {
					t.Errorf("%s on %v, %x: %#x, want %#x: %v", c.name, a.scmp, args, got, want, manifests)
				}
			}
		}
	}
}

// holds reports whether a plugin wants the call.
func holds(manifests []*wire.Manifest, name string, args [6]uint64) bool {
	fails := func(c *wire.Condition) bool { return args[c.GetArg()]&c.GetMask() != c.GetValue() }
	matches := func(m *wire.Match) bool { return !slices.ContainsFunc(m.GetAll(), fails) }
	for _, m := range manifests {
		for _, s := range m.GetSyscalls() {
			if s.GetName() == name && (len(s.GetWhen()) == 0 || slices.ContainsFunc(s.GetWhen(), matches)) {
				return true
			}
		}
	}
	return false
}

func randomPlugin(random *rand.Rand, name string) *wire.Manifest {
	p := plugin(name)
	for _, syscall := range []string{"mknod", "umount2", "setxattr", "umount", "setxattrat"} {
		s := takes(syscall)
		for range random.IntN(4) {
			m := &wire.Match{}
			for _, arg := range random.Perm(6)[:1+random.IntN(3)] {
				mask := randomMask(random) << (random.IntN(3) * 16)
				m = both(m, when(uint32(arg), mask, randomValue(random)))
			}
			s.When = append(s.When, m)
		}
		p.Syscalls = append(p.Syscalls, s)
	}
	return p
}
