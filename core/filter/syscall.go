package filter

import (
	"fmt"

	"github.com/agext/levenshtein"
	"github.com/intercede/intercede/internal/wire"
	"github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// recent are the calls that libseccomp 2.5 does not know. Since Linux 5.1 a new call has one number on all
// architectures (scripts/syscall.tbl in the kernel).
var recent = map[string]int32{
	"cachestat":         unix.SYS_CACHESTAT,
	"fchmodat2":         unix.SYS_FCHMODAT2,
	"futex_wake":        unix.SYS_FUTEX_WAKE,
	"futex_wait":        unix.SYS_FUTEX_WAIT,
	"futex_requeue":     unix.SYS_FUTEX_REQUEUE,
	"statmount":         unix.SYS_STATMOUNT,
	"listmount":         unix.SYS_LISTMOUNT,
	"lsm_get_self_attr": unix.SYS_LSM_GET_SELF_ATTR,
	"lsm_set_self_attr": unix.SYS_LSM_SET_SELF_ATTR,
	"lsm_list_modules":  unix.SYS_LSM_LIST_MODULES,
	"mseal":             unix.SYS_MSEAL,
	"setxattrat":        unix.SYS_SETXATTRAT,
	"getxattrat":        unix.SYS_GETXATTRAT,
	"listxattrat":       unix.SYS_LISTXATTRAT,
	"removexattrat":     unix.SYS_REMOVEXATTRAT,
	"open_tree_attr":    unix.SYS_OPEN_TREE_ATTR,
	"file_getattr":      unix.SYS_FILE_GETATTR,
	"file_setattr":      unix.SYS_FILE_SETATTR,
	"listns":            unix.SYS_LISTNS,
	"rseq_slice_yield":  unix.SYS_RSEQ_SLICE_YIELD,
}

// direct are i386's own numbers of calls that are behind socketcall(2) or ipc(2) too: libseccomp says the latter alone
// (arch/x86/entry/syscalls/syscall_32.tbl).
var direct = map[string]int32{
	"recvmmsg": 337, "sendmmsg": 345,
	"socket": 359, "socketpair": 360, "bind": 361, "connect": 362, "listen": 363, "accept4": 364, "getsockopt": 365,
	"setsockopt": 366, "getsockname": 367, "getpeername": 368, "sendto": 369, "sendmsg": 370, "recvfrom": 371, "recvmsg": 372,
	"shutdown": 373, "semget": 393, "semctl": 394, "shmget": 395, "shmctl": 396, "shmat": 397, "shmdt": 398, "msgget": 399,
	"msgsnd": 400, "msgrcv": 401, "msgctl": 402,
}

// number is the call's number on the architecture; ok is false if the architecture lacks it.
func (a architecture) number(name string) (nr int32, ok bool) {
	if _, multiplexed := wire.MultiplexerOf(name); multiplexed && a.scmp == seccomp.ArchX86 {
		nr, ok := direct[name]
		return nr, ok
	}
	n, err := seccomp.GetSyscallFromNameByArch(name, a.scmp)
	if err != nil {
		nr, ok := recent[name]
		return nr | a.flag, ok
	}
	return int32(n), n >= 0 // a negative number stands for a call that the architecture lacks
}

// Number is the call's number on the machine's own architecture; ok is false if that lacks it.
func Number(name string) (nr int32, ok bool) {
	if len(architectures) == 0 {
		return 0, false
	}
	return architectures[0].number(name)
}

// unknown is the error for a name that no architecture has, with the nearest name that one has.
func unknown(name string) error {
	nearest, distance := "", 3
	for _, a := range architectures {
		for nr := int32(0); nr < 1024; nr++ {
			known, err := seccomp.ScmpSyscall(nr | a.flag).GetNameByArch(a.scmp)
			if err != nil {
				continue
			}
			if d := levenshtein.Distance(name, known, nil); d < distance {
				nearest, distance = known, d
			}
		}
	}
	if nearest == "" {
		return fmt.Errorf("no architecture of this machine has a syscall %q", name)
	}
	return fmt.Errorf("no architecture of this machine has a syscall %q: is it %s?", name, nearest)
}
