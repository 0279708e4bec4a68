package differential

import (
	"fmt"
	"strings"

	"github.com/intercede/intercede/internal/cbpf"
	"github.com/intercede/intercede/tests/stage"
	"golang.org/x/sys/unix"
)

// twinCalls are what real root may call, on amd64 and i386. Those that an architecture lacks are left out there.
var twinCalls = strings.Fields(`
	read write open openat close stat fstat lstat newfstatat stat64 lstat64 fstat64 fstatat64 statx access faccessat faccessat2
	lseek _llseek readv writev pread64 dup dup2 dup3 pipe pipe2 fcntl fcntl64 getdents64 getdents getcwd chdir fchdir umask chroot
	mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat readlink readlinkat
	chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat chown32 fchown32 lchown32 mknod mknodat utimensat truncate ftruncate
	ftruncate64 fsync close_range
	setxattr lsetxattr fsetxattr setxattrat getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
	removexattr lremovexattr fremovexattr removexattrat
	mount umount umount2 fsopen fsconfig fsmount fspick move_mount
	sched_setscheduler sched_setparam sched_setattr sched_getscheduler sched_getparam sched_getattr sched_yield
	sched_get_priority_max sched_get_priority_min setpriority getpriority ioprio_set ioprio_get nice sysinfo bpf
	brk mmap mmap2 munmap mprotect mremap madvise arch_prctl set_thread_area set_tid_address set_robust_list rseq futex futex_time64
	getrandom uname prlimit64 ugetrlimit getrlimit clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
	nanosleep gettimeofday time alarm
	rt_sigaction rt_sigprocmask rt_sigreturn sigreturn rt_sigpending sigaltstack kill tkill tgkill
	execve exit exit_group fork vfork clone wait4 waitid waitpid unshare setsid setpgid getpgid getpgrp getsid getpid getppid gettid
	getuid geteuid getgid getegid getuid32 geteuid32 getgid32 getegid32 setuid setgid setuid32 setgid32 setreuid setregid setresuid
	setresgid setreuid32 setregid32 setresuid32 setresgid32 setfsuid setfsgid setfsuid32 setfsgid32 setgroups setgroups32 getgroups
	getgroups32 capget capset prctl
`)

// Namespaces that sequences may make. A user namespace of real root's has no more privilege than anybody's.
const twinNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_FS | unix.CLONE_FILES

// Any namespace (clone(2)).
const allNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET

// bpfCommands are those that sequences make: load, attach, detach, query. The others take ids, which are the host's.
var bpfCommands = []uint64{unix.BPF_PROG_LOAD, unix.BPF_PROG_ATTACH, unix.BPF_PROG_DETACH, unix.BPF_PROG_QUERY}

// twinFilter kills who makes another call. clone3 and ioctl, which programs can do without, fail.
func twinFilter(t *stage.Test) []unix.SockFilter {
	t.Helper()
	var p cbpf.Program
	for arch, program := range map[uint32]string{unix.AUDIT_ARCH_X86_64: "numbers", unix.AUDIT_ARCH_I386: "numbers32"} {
		numbers := map[string]uint32{}
		for line := range strings.Lines(t.Command(stage.Program(program))) {
			var name string
			var number uint32
			if _, err := fmt.Sscan(line, &name, &number); err != nil {
				t.Fatal(err)
			}
			numbers[name] = number
		}
		next := p.NewLabel()
		p.LoadArch()
		p.JumpUnless(arch, next)
		p.LoadNumber()
		addCalls(&p, numbers, arch == unix.AUDIT_ARCH_I386)
		p.Return(unix.SECCOMP_RET_KILL_PROCESS)
		p.Place(next)
	}
	p.Return(unix.SECCOMP_RET_KILL_PROCESS)
	filter, err := p.Assemble()
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

func addCalls(p *cbpf.Program, numbers map[string]uint32, narrow bool) {
	for _, name := range twinCalls {
		number, ok := numbers[name]
		if !ok {
			continue
		}
		other := p.NewLabel()
		p.JumpUnless(number, other)
		switch name {
		case "clone":
			allowMasked(p, allNamespaces, narrow)
		case "unshare":
			allowMasked(p, 0xffffffff&^twinNamespaces, narrow)
		case "bpf":
			for _, command := range bpfCommands {
				fails := p.NewLabel()
				p.JumpUnlessArgument(0, 0xffffffff, command, narrow, fails)
				p.Return(unix.SECCOMP_RET_ALLOW)
				p.Place(fails)
			}
			p.Return(unix.SECCOMP_RET_KILL_PROCESS)
		default:
			p.Return(unix.SECCOMP_RET_ALLOW)
		}
		p.Place(other)
	}
	for name, errno := range map[string]unix.Errno{"clone3": unix.ENOSYS, "ioctl": unix.ENOTTY} {
		other := p.NewLabel()
		p.JumpUnless(numbers[name], other)
		p.Return(unix.SECCOMP_RET_ERRNO | uint32(errno))
		p.Place(other)
	}
}

// allowMasked allows a call whose first argument has none of these bits.
func allowMasked(p *cbpf.Program, without uint64, narrow bool) {
	fails := p.NewLabel()
	p.JumpUnlessArgument(0, without, 0, narrow, fails)
	p.Return(unix.SECCOMP_RET_ALLOW)
	p.Place(fails)
	p.Return(unix.SECCOMP_RET_KILL_PROCESS)
}
