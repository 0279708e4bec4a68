package filter

import (
	"runtime"

	"github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// architecture is a system call table that tasks of this machine can use.
type architecture struct {
	scmp    seccomp.ScmpArch
	audit   uint32 // AUDIT_ARCH_* in seccomp_data
	profile string // in OCI profiles
	flag    int32  // set in every number of the table
	narrow  bool   // registers have 32 bits
}

// x32Bit marks x32 calls, whose seccomp_data has AUDIT_ARCH_X86_64 (__X32_SYSCALL_BIT, asm/unistd.h).
const x32Bit = 0x40000000

// architectures are those of this machine, the native one first; none where the project does not run.
var architectures = map[string][]architecture{
	"amd64": {
		{scmp: seccomp.ArchAMD64, audit: unix.AUDIT_ARCH_X86_64, profile: "SCMP_ARCH_X86_64"},
		{scmp: seccomp.ArchX86, audit: unix.AUDIT_ARCH_I386, profile: "SCMP_ARCH_X86", narrow: true},
		{scmp: seccomp.ArchX32, audit: unix.AUDIT_ARCH_X86_64, profile: "SCMP_ARCH_X32", flag: x32Bit},
	},
	"arm64": {
		{scmp: seccomp.ArchARM64, audit: unix.AUDIT_ARCH_AARCH64, profile: "SCMP_ARCH_AARCH64"},
		{scmp: seccomp.ArchARM, audit: unix.AUDIT_ARCH_ARM, profile: "SCMP_ARCH_ARM", narrow: true},
	},
}[runtime.GOARCH]
