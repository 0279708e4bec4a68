package sdktest

import (
	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// buildFilter makes the program that notifies the manifest's syscalls where one of their conditions holds. A syscall
// that an architecture lacks is left out there.
func buildFilter(manifest *wire.Manifest) ([]unix.SockFilter, error) {
	var program cbpf.Program
	for _, arch := range arches() {
		next := program.NewLabel()
		program.LoadArch()
		program.JumpUnless(uint32(arch), next)
		program.LoadNumber()
		for _, s := range manifest.GetSyscalls() {
			if nr, ok := numbers[arch][s.GetName()]; ok && (arch == native() || s.GetCompat() != wire.Compat_COMPAT_CONTINUE) {
				notifyWhen(&program, s.GetWhen(), nr, arch)
			}
		}
		for nr, matches := range multiplexed(manifest, arch) {
			notifyWhen(&program, matches, nr, arch)
		}
		program.Place(next)
	}
	program.Return(unix.SECCOMP_RET_ALLOW)
	return program.Assemble()
}

// notifyWhen notifies the system call nr where one of the matches holds, or always if there is none.
func notifyWhen(program *cbpf.Program, matches []*wire.Match, nr int32, arch sdk.Arch) {
	other := program.NewLabel()
	program.JumpUnless(uint32(nr), other)
	if len(matches) == 0 {
		matches = []*wire.Match{{}} // it has no condition that could fail
	}
	for _, m := range matches {
		fails := program.NewLabel()
		for _, c := range m.GetAll() {
			program.JumpUnlessArgument(c.GetArg(), c.GetMask(), c.GetValue(), arch.Is32Bit(), fails)
		}
		program.Return(unix.SECCOMP_RET_USER_NOTIF)
		program.Place(fails)
	}
	program.Return(unix.SECCOMP_RET_ALLOW)
	program.Place(other)
}

// multiplexed are what socketcall(2) and ipc(2) stand for of the calls that the manifest has refused to i386
// programs, by their numbers.
func multiplexed(manifest *wire.Manifest, arch sdk.Arch) map[int32][]*wire.Match {
	all := map[int32][]*wire.Match{}
	for _, s := range manifest.GetSyscalls() {
		m, ok := wire.MultiplexerOf(s.GetName())
		if !ok || arch != sdk.ArchI386 || s.GetCompat() != wire.Compat_COMPAT_REFUSE {
			continue
		}
		nr := numbers[arch][m.Name]
		all[nr] = append(all[nr], &wire.Match{All: []*wire.Condition{{Mask: uint64(m.Mask), Value: uint64(m.Value)}}})
	}
	return all
}

// syscallOf finds the declaration of a notified call.
func syscallOf(manifest *wire.Manifest, arch sdk.Arch, nr int32, first uint64) *wire.Syscall {
	for _, s := range manifest.GetSyscalls() {
		if known, ok := numbers[arch][s.GetName()]; ok && known == nr {
			return s
		}
		m, ok := wire.MultiplexerOf(s.GetName())
		if ok && wire.IsMultiplexed(uint32(arch), nr) && numbers[arch][m.Name] == nr && uint32(first)&m.Mask == m.Value {
			return s
		}
	}
	return nil
}
