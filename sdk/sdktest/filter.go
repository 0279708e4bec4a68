package sdktest

import (
	"github.com/intercede/intercede/internal/wire"
	"github.com/intercede/intercede/sdk"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, seccomp(2).
const (
	offsetNR   = 0
	offsetArch = 4
)

// buildFilter makes the program that notifies the manifest's syscalls, by number alone: what the conditions leave out is
// continued later. A syscall that an architecture lacks is left out there.
func buildFilter(manifest *wire.Manifest) []unix.SockFilter {
	var program []unix.SockFilter
	for _, arch := range arches() {
		var block []unix.SockFilter
		for _, s := range manifest.GetSyscalls() {
			if nr, ok := numbers[arch][s.GetName()]; ok {
				block = append(block, jumpEqual(uint32(nr), 0, 1), statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_USER_NOTIF))
			}
		}
		// ja takes a 32-bit distance, where the branches of jeq reach 255 instructions.
		program = append(program,
			statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetArch),
			jumpEqual(uint32(arch), 1, 0),
			statement(unix.BPF_JMP|unix.BPF_JA, uint32(len(block)+1)),
			statement(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offsetNR))
		program = append(program, block...)
	}
	return append(program, statement(unix.BPF_RET|unix.BPF_K, unix.SECCOMP_RET_ALLOW))
}

func statement(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func jumpEqual(k uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: jt, Jf: jf, K: k}
}

// syscallOf finds the declaration of a notified number.
func syscallOf(manifest *wire.Manifest, arch sdk.Arch, nr int32) *wire.Syscall {
	for _, s := range manifest.GetSyscalls() {
		if known, ok := numbers[arch][s.GetName()]; ok && known == nr {
			return s
		}
	}
	return nil
}
