package filter

import (
	"errors"
	"fmt"

	"github.com/agext/levenshtein"
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
}

// errMultiplexed means that i386 programs also reach a call through socketcall(2) or ipc(2), whose arguments are in
// memory, where neither a filter nor a plugin's conditions see them.
var errMultiplexed = errors.New("i386 callers also reach it through socketcall or ipc, which hide the arguments; it cannot be intercepted")

// number is the call's number on the architecture; ok is false if the architecture lacks it.
func (a architecture) number(name string) (nr int32, ok bool, err error) {
	n, err := seccomp.GetSyscallFromNameByArch(name, a.scmp)
	if err != nil {
		nr, ok := recent[name]
		return nr | a.flag, ok, nil
	}
	// libseccomp names a call that the architecture lacks by a negative number; -101 to -120 are behind socketcall and
	// -201 to -224 behind ipc (seccomp-syscalls.h).
	if a.scmp == seccomp.ArchX86 && n <= -101 && n >= -224 {
		return 0, false, errMultiplexed
	}
	return int32(n), n >= 0, nil
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
