package sandbox

import (
	"testing"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"golang.org/x/sys/unix"
)

func TestDenyProgram(t *testing.T) {
	program, err := denyProgram(denied).Assemble()
	if err != nil {
		t.Fatal(err)
	}
	vm := cbpftest.New(t, program)
	for _, test := range []struct {
		arch uint32
		nr   int32
		want uint32
	}{
		{auditArch, unix.SYS_READ, unix.SECCOMP_RET_ALLOW},
		{auditArch, unix.SYS_BPF, unix.SECCOMP_RET_ALLOW},
		{auditArch, 0x3fffffff, unix.SECCOMP_RET_ALLOW},
		{auditArch, unix.SYS_PTRACE, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{auditArch, int32(denied[len(denied)-1]), unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{auditArch, 0x40000000 | unix.SYS_READ, unix.SECCOMP_RET_KILL_PROCESS},
		{auditArch, -1, unix.SECCOMP_RET_KILL_PROCESS},
		{auditArch + 1, unix.SYS_READ, unix.SECCOMP_RET_KILL_PROCESS},
	} {
		if got := vm.Run(test.arch, test.nr, [6]uint64{}); got != test.want {
			t.Errorf("call %#x of %#x: %#x, want %#x", uint32(test.nr), test.arch, got, test.want)
		}
	}
}
