package main

import (
	"math"
	"runtime"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/internal/require"
	"golang.org/x/sys/unix"
)

// feature is a use of a system call, and the kernel that brought it.
type feature struct {
	since string
	nr    uint32
	when  []argument
	errno unix.Errno // of kernels before
}

// argument is an argument that has the value where the mask has ones.
type argument struct {
	index       uint32
	mask, value uint64
}

func flag(index uint32, bit uint64) argument { return argument{index, bit, bit} }
func equal(index uint32, to uint64) argument { return argument{index, math.MaxUint32, to} }

// workingDirectory is AT_FDCWD instead of a descriptor.
var workingDirectory = argument{0, math.MaxUint32, unix.AT_FDCWD & math.MaxUint32}

func ioctl(request uint64) []argument { return []argument{equal(1, request)} }

// features are what the project uses, or looks whether it is there, of kernels after 5.10. Not among them is what a
// filter cannot see: STATX_MNT_ID_UNIQUE (6.8), which older kernels ignore; idmapped mounts of tmpfs (6.3);
// open_tree(2) of a detached mount (6.15).
var features = []feature{
	{"5.11", unix.SYS_CLOSE_RANGE, []argument{flag(2, unix.CLOSE_RANGE_CLOEXEC)}, unix.EINVAL},
	// The flag SECCOMP_ADDFD_FLAG_SEND is behind a pointer: with it goes all of ADDFD, which is of 5.9.
	{"5.14", unix.SYS_IOCTL, ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD), unix.EINVAL},
	{"5.19", unix.SYS_SECCOMP, []argument{equal(0, unix.SECCOMP_SET_MODE_FILTER), flag(1, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)},
		unix.EINVAL},
	{"6.5", unix.SYS_GETSOCKOPT, []argument{equal(1, unix.SOL_SOCKET), equal(2, unix.SO_PEERPIDFD)}, unix.ENOPROTOOPT},
	{"6.5", unix.SYS_MOVE_MOUNT, []argument{flag(4, moveMountBeneath)}, unix.EINVAL},
	{"6.6", unix.SYS_IOCTL, ioctl(unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS), unix.EINVAL},
	{"6.6", unix.SYS_FSCONFIG, []argument{equal(1, createExclusive)}, unix.EOPNOTSUPP},
	{"6.9", unix.SYS_PIDFD_OPEN, []argument{flag(1, unix.PIDFD_THREAD)}, unix.EINVAL},
	{"6.10", unix.SYS_FCNTL, []argument{equal(1, unix.F_DUPFD_QUERY)}, unix.EINVAL},
	{"6.11", unix.SYS_IOCTL, ioctl(unix.NS_GET_PID_FROM_PIDNS), unix.ENOTTY},
	{"6.11", unix.SYS_IOCTL, ioctl(unix.NS_GET_TGID_FROM_PIDNS), unix.ENOTTY},
	{"6.11", unix.SYS_IOCTL, ioctl(unix.NS_GET_PID_IN_PIDNS), unix.ENOTTY},
	{"6.11", unix.SYS_IOCTL, ioctl(unix.NS_GET_TGID_IN_PIDNS), unix.ENOTTY},
	{"6.11", unix.SYS_IOCTL, []argument{{1, 0xfff0, 0xff00}}, unix.ENOTTY}, // PIDFD_GET_*
	{"6.11", unix.SYS_IOCTL, ioctl(procmapQuery), unix.ENOTTY},
	{"6.13", unix.SYS_FSETXATTR, []argument{workingDirectory}, unix.EBADF},
	{"6.13", unix.SYS_FGETXATTR, []argument{workingDirectory}, unix.EBADF},
	{"6.13", unix.SYS_FLISTXATTR, []argument{workingDirectory}, unix.EBADF},
}

const (
	procmapQuery     = 0xc0686611 // PROCMAP_QUERY, linux/fs.h
	moveMountBeneath = 0x200      // MOVE_MOUNT_BENEATH, linux/mount.h
	createExclusive  = 8          // FSCONFIG_CMD_CREATE_EXCL, linux/mount.h
)

// calls are the first new system call of each kernel that brought some. It has one number on all architectures.
var calls = []struct {
	since string
	first uint32
}{
	{"5.11", unix.SYS_EPOLL_PWAIT2},
	{"5.12", unix.SYS_MOUNT_SETATTR},
	{"5.13", unix.SYS_QUOTACTL_FD}, // it is of 5.14, and those after it of 5.13
	{"5.14", unix.SYS_MEMFD_SECRET},
	{"5.15", unix.SYS_PROCESS_MRELEASE},
	{"5.16", unix.SYS_FUTEX_WAITV},
	{"5.17", unix.SYS_SET_MEMPOLICY_HOME_NODE},
	{"6.5", unix.SYS_CACHESTAT},
	{"6.6", unix.SYS_FCHMODAT2},
	{"6.7", unix.SYS_FUTEX_WAKE},
	{"6.8", unix.SYS_STATMOUNT},
	{"6.10", unix.SYS_MSEAL},
	{"6.13", unix.SYS_SETXATTRAT},
	{"6.15", unix.SYS_OPEN_TREE_ATTR},
	{"6.17", unix.SYS_FILE_GETATTR},
	{"6.19", unix.SYS_LISTNS},
}

var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]

// x32 is the bit of the numbers of x32 (__X32_SYSCALL_BIT, asm/unistd.h); all above are no system calls.
const x32 = 0x40000000

// filterProgram refuses what the kernel of the version lacks, such as "5.15", and allows all else.
func filterProgram(version string) ([]unix.SockFilter, error) {
	var p cbpf.Program
	foreign := p.NewLabel()
	p.LoadArch()
	p.JumpUnless(auditArch, foreign)
	for _, f := range features {
		older, err := require.Older(version, f.since)
		if err != nil {
			return nil, err
		}
		if !older {
			continue
		}
		next := p.NewLabel()
		p.LoadNumber()
		p.JumpUnless(f.nr, next)
		for _, a := range f.when {
			p.JumpUnlessArgument(a.index, a.mask, a.value, false, next)
		}
		p.Return(unix.SECCOMP_RET_ERRNO | uint32(f.errno))
		p.Place(next)
	}
	p.Place(foreign)
	return newestCalls(&p, version)
}

// newestCalls ends the program: the kernel has no system calls from the first that is newer than the version on.
func newestCalls(p *cbpf.Program, version string) ([]unix.SockFilter, error) {
	for _, c := range calls {
		older, err := require.Older(version, c.since)
		if err != nil {
			return nil, err
		}
		if older {
			newer, other := p.NewLabel(), p.NewLabel()
			p.LoadNumber()
			p.JumpIfAbove(x32-1, other)
			p.JumpIfAbove(c.first-1, newer)
			p.Place(other)
			p.Return(unix.SECCOMP_RET_ALLOW)
			p.Place(newer)
			p.Return(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
			return p.Assemble()
		}
	}
	p.Return(unix.SECCOMP_RET_ALLOW)
	return p.Assemble()
}
