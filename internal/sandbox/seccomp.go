package sandbox

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/intercede/intercede/internal/cbpf"
	"golang.org/x/sys/unix"
)

// denied are system calls that no plugin needs, though its capabilities may allow them: they reach the whole host, or
// around the permissions that a plugin is given, or much kernel code. deniedHere has those of this architecture alone.
var denied = append([]uint32{
	// The host's kernel, clock, swap, accounting and ports.
	unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME,
	unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SYSLOG, unix.SYS_VHANGUP, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	// Files by handle, whatever folders they are in; other processes.
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP,
	// Large parts of the kernel.
	unix.SYS_USERFAULTFD, unix.SYS_PERF_EVENT_OPEN, unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE, unix.SYS_PERSONALITY,
}, deniedHere...)

// bpfCapability is what lets a plugin call bpf(2).
const bpfCapability = "CAP_BPF"

// denySyscalls loads a filter on the calling thread: the denied calls fail with EPERM, those of other architectures
// kill.
func (r *restrictions) denySyscalls() error {
	numbers := denied
	if !slices.Contains(r.Capabilities, bpfCapability) {
		numbers = append(slices.Clone(denied), unix.SYS_BPF)
	}
	filter, err := denyProgram(numbers).Assemble()
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return fmt.Errorf("load a seccomp filter: %w", err)
	}
	return nil
}

// denyProgram compares one number after the other: a plugin is through with it in less than a microsecond.
func denyProgram(numbers []uint32) *cbpf.Program {
	program := &cbpf.Program{}
	foreign := program.NewLabel()
	program.LoadArch()
	program.JumpUnless(auditArch, foreign)
	program.LoadNumber()
	program.And(x32Bits)
	program.JumpUnless(0, foreign)
	program.LoadNumber()
	for _, number := range numbers {
		next := program.NewLabel()
		program.JumpUnless(number, next)
		program.Return(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
		program.Place(next)
	}
	program.Return(unix.SECCOMP_RET_ALLOW)
	program.Place(foreign)
	program.Return(unix.SECCOMP_RET_KILL_PROCESS)
	return program
}

// x32Bits are those of which one is set in the numbers of x32, a third architecture in the guise of x86_64
// (__X32_SYSCALL_BIT, asm/unistd.h), and in negative ones. No other architecture has numbers as large.
const x32Bits = 0xc0000000
