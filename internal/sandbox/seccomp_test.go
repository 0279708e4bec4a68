package sandbox

import (
	"testing"

	"github.com/intercede/intercede/internal/cbpf/cbpftest"
	"github.com/intercede/intercede/internal/syscalls"
	"golang.org/x/sys/unix"
)

const (
	allowed = uint32(unix.SECCOMP_RET_ALLOW)
	refused = withErrno
	unknown = notThere
	killed  = uint32(unix.SECCOMP_RET_KILL_PROCESS)
)

// binary is the descriptor of a binary, which one execveat may name.
const binary = 1000

func filter(t *testing.T, declared ...string) cbpftest.VM {
	t.Helper()
	program, err := filterProgram(declared, binary, withErrno).Assemble()
	if err != nil {
		t.Fatal(err)
	}
	return cbpftest.New(t, program)
}

func TestFilter(t *testing.T) {
	vm := filter(t)
	for _, test := range []struct {
		arch uint32
		nr   int32
		args [6]uint64
		want uint32
	}{
		{auditArch, unix.SYS_READ, [6]uint64{}, allowed},
		{auditArch, syscalls.Last, [6]uint64{}, allowed},
		{auditArch, syscalls.Last + 1, [6]uint64{}, unknown},
		{auditArch, 0x3fffffff, [6]uint64{}, unknown},
		{auditArch, 0x40000000 | unix.SYS_READ, [6]uint64{}, killed},
		{auditArch, -1, [6]uint64{}, killed},
		{auditArch + 1, unix.SYS_READ, [6]uint64{}, killed},
		{auditArch, unix.SYS_EXECVEAT, [6]uint64{binary, 1, 2, 3, unix.AT_EMPTY_PATH}, allowed},
		{auditArch, unix.SYS_EXECVEAT, [6]uint64{binary + 1, 1, 2, 3, unix.AT_EMPTY_PATH}, refused},
		{auditArch, unix.SYS_EXECVEAT, [6]uint64{binary, 1, 2, 3, 0}, refused},
		{auditArch, unix.SYS_CLONE, [6]uint64{unix.CLONE_VM | unix.CLONE_FS}, allowed},
		{auditArch, unix.SYS_CLONE, [6]uint64{unix.CLONE_VM | unix.CLONE_NEWUSER}, refused},
		{auditArch, unix.SYS_CLONE3, [6]uint64{}, unknown},
		{auditArch, unix.SYS_UNSHARE, [6]uint64{unix.CLONE_FS | unix.CLONE_NEWNS}, allowed},
		{auditArch, unix.SYS_UNSHARE, [6]uint64{unix.CLONE_FS | unix.CLONE_NEWUSER}, refused},
		{auditArch, unix.SYS_SETNS, [6]uint64{3, unix.CLONE_NEWNS}, allowed},
		{auditArch, unix.SYS_SETNS, [6]uint64{3, unix.CLONE_NEWNS | 1<<32}, allowed},
		{auditArch, unix.SYS_SETNS, [6]uint64{3, 0}, refused},
		{auditArch, unix.SYS_SETNS, [6]uint64{3, unix.CLONE_NEWUSER}, refused},
		{auditArch, unix.SYS_SOCKET, [6]uint64{unix.AF_UNIX}, allowed},
		{auditArch, unix.SYS_SOCKET, [6]uint64{unix.AF_VSOCK}, refused},
		{auditArch, unix.SYS_SETFSUID, [6]uint64{100000}, allowed},
		{auditArch, unix.SYS_SETFSUID, [6]uint64{1 << 32}, refused},
		{auditArch, unix.SYS_SETFSGID, [6]uint64{^uint64(0)}, allowed},
		{auditArch, unix.SYS_SETFSGID, [6]uint64{0}, refused},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, unix.TCGETS}, allowed},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, unix.NS_GET_USERNS}, allowed},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, unix.NS_GET_PID_IN_PIDNS}, allowed},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, unix.NS_GET_TGID_IN_PIDNS}, allowed},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, fionbio}, allowed},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, fsFreeze}, refused},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, xfsOpenByHandle}, refused},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, unix.TIOCSTI}, refused},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, nsMountNext}, refused},
		{auditArch, unix.SYS_IOCTL, [6]uint64{3, nsMountPrevious}, refused},
	} {
		if got := vm.Run(test.arch, test.nr, test.args); got != test.want {
			t.Errorf("call %#x of %#x with %#x: %#x, want %#x", uint32(test.nr), test.arch, test.args, got, test.want)
		}
	}
}

// As in include/uapi/linux/nsfs.h: _IOR(0xb7, 11, struct mnt_ns_info) and 12, of 16 bytes.
const (
	nsMountNext     = 0x8010b70b
	nsMountPrevious = 0x8010b70c
	xfsOpenByHandle = 0x4030586b // XFS_IOC_OPEN_BY_HANDLE, fs/xfs/libxfs/xfs_fs.h
	fsFreeze        = 0xc0045877 // FIFREEZE, linux/fs.h
)

// TestDeclared declares each call that is to be declared, alone.
func TestDeclared(t *testing.T) {
	none := filter(t)
	for name, number := range syscalls.Numbers {
		others := [6]uint64{0, unix.CLONE_NEWUSER}
		if name == "clone" || name == "unshare" {
			others[0] = unix.CLONE_NEWUSER
		}
		want := refused
		if name == "clone3" {
			want = unknown
		}
		if got := none.Run(auditArch, int32(number), others); got != want {
			t.Errorf("%s, not declared: %#x, want %#x", name, got, want)
		}
		one := filter(t, name)
		if got := one.Run(auditArch, int32(number), others); got != allowed {
			t.Errorf("%s, declared: %#x", name, got)
		}
		if got := one.Run(auditArch, unix.SYS_IOCTL, [6]uint64{3, nsMountNext}); got != refused {
			t.Errorf("with %s, NS_MNT_GET_NEXT: %#x", name, got)
		}
	}
}
