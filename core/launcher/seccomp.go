package launcher

import (
	"fmt"
	"slices"

	"github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// denied are system calls that no plugin needs, though its capabilities may allow them: they reach the whole host, or
// around the permissions that a plugin is given, or much kernel code.
var denied = []string{
	// The host's kernel, clock, swap, accounting and ports.
	"kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff", "acct",
	"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "iopl", "ioperm", "syslog", "vhangup", "quotactl", "quotactl_fd",
	// Files by handle, whatever folders they are in; other processes.
	"open_by_handle_at", "name_to_handle_at", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp",
	// Large parts of the kernel.
	"userfaultfd", "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "request_key",
	"keyctl", "fanotify_init", "lookup_dcookie", "personality", "modify_ldt",
}

// bpfCapability is what lets a plugin call bpf(2).
const bpfCapability = "CAP_BPF"

// denySyscalls loads a filter on the calling thread: the denied calls fail with EPERM, those of other architectures kill.
func (s *sandbox) denySyscalls() error {
	filter, err := seccomp.NewFilter(seccomp.ActAllow)
	if err != nil {
		return fmt.Errorf("seccomp filter: %w", err)
	}
	defer filter.Release()
	if err := filter.SetNoNewPrivsBit(true); err != nil {
		return fmt.Errorf("seccomp filter: %w", err)
	}
	names := denied
	if !slices.Contains(s.Capabilities, bpfCapability) {
		names = append(slices.Clone(denied), "bpf")
	}
	for _, name := range names {
		call, err := seccomp.GetSyscallFromName(name)
		if err != nil {
			continue // newer than libseccomp, or not on this architecture
		}
		if err := filter.AddRule(call, seccomp.ActErrno.SetReturnCode(int16(unix.EPERM))); err != nil {
			return fmt.Errorf("seccomp filter: %s: %w", name, err)
		}
	}
	if err := filter.Load(); err != nil {
		return fmt.Errorf("load a seccomp filter: %w", err)
	}
	return nil
}
