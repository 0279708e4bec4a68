// Package syscalls has the system calls that a plugin's process may make only if its manifest declares them.
package syscalls

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Numbers are those of this architecture, by the kernel's names. A name in it stands for a call as a whole, or for a
// use of it that is not ordinary: see internal/sandbox.
var Numbers = join(map[string]uint32{
	// The host's kernel, clock, swap, accounting and ports.
	"kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "init_module": unix.SYS_INIT_MODULE,
	"finit_module": unix.SYS_FINIT_MODULE, "delete_module": unix.SYS_DELETE_MODULE, "reboot": unix.SYS_REBOOT,
	"swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF, "acct": unix.SYS_ACCT, "settimeofday": unix.SYS_SETTIMEOFDAY,
	"clock_settime": unix.SYS_CLOCK_SETTIME, "clock_adjtime": unix.SYS_CLOCK_ADJTIME, "adjtimex": unix.SYS_ADJTIMEX,
	"syslog": unix.SYS_SYSLOG, "vhangup": unix.SYS_VHANGUP, "quotactl": unix.SYS_QUOTACTL, "quotactl_fd": unix.SYS_QUOTACTL_FD,
	// Files by handle, whatever folders they are in; other processes, their descriptors and their namespaces.
	"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "ptrace": unix.SYS_PTRACE,
	"process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"process_madvise": unix.SYS_PROCESS_MADVISE, "kcmp": unix.SYS_KCMP, "pidfd_getfd": unix.SYS_PIDFD_GETFD,
	"statmount": unix.SYS_STATMOUNT, "listmount": unix.SYS_LISTMOUNT, "listns": unix.SYS_LISTNS,
	// Large parts of the kernel.
	"userfaultfd": unix.SYS_USERFAULTFD, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "io_uring_setup": unix.SYS_IO_URING_SETUP,
	"io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER, "add_key": unix.SYS_ADD_KEY,
	"request_key": unix.SYS_REQUEST_KEY, "keyctl": unix.SYS_KEYCTL, "fanotify_init": unix.SYS_FANOTIFY_INIT,
	"lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "personality": unix.SYS_PERSONALITY, "bpf": unix.SYS_BPF,
	// Mounts.
	"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "open_tree": unix.SYS_OPEN_TREE,
	"open_tree_attr": unix.SYS_OPEN_TREE_ATTR, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN,
	"fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT, "fspick": unix.SYS_FSPICK, "mount_setattr": unix.SYS_MOUNT_SETATTR,
	// Other users, other programs.
	"setuid": unix.SYS_SETUID, "setgid": unix.SYS_SETGID, "setreuid": unix.SYS_SETREUID, "setregid": unix.SYS_SETREGID,
	"setfsuid": unix.SYS_SETFSUID, "setfsgid": unix.SYS_SETFSGID, "setresuid": unix.SYS_SETRESUID, "setresgid": unix.SYS_SETRESGID, "execve": unix.SYS_EXECVE, "execveat": unix.SYS_EXECVEAT,
	// Namespaces, sockets, what a file's filesystem or driver makes of a number: in part.
	"clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3, "unshare": unix.SYS_UNSHARE, "setns": unix.SYS_SETNS, "socket": unix.SYS_SOCKET,
	"ioctl": unix.SYS_IOCTL,
}, numbersHere)

func join(all, here map[string]uint32) map[string]uint32 {
	maps.Copy(all, here)
	return all
}

// Name is the name in Numbers of the number, or else the number.
func Name(number uint32) string {
	for name, n := range Numbers {
		if n == number {
			return name
		}
	}
	return fmt.Sprintf("#%d", number)
}

// Last is the last one that the kernel has, as far as this program knows.
const Last = unix.SYS_RSEQ_SLICE_YIELD

// Check says why a manifest does not declare the system call name.
func Check(name string) error {
	if _, ok := Numbers[name]; !ok {
		return fmt.Errorf("system call %q: there is none of that name, or it needs no declaration: want one of %s",
			name, strings.Join(slices.Sorted(maps.Keys(Numbers)), ", "))
	}
	return nil
}
