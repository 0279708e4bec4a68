package attacks

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpfQuery is BPF_PROG_QUERY (bpf(2)); the struct is the start of union bpf_attr.
func bpfQuery[T any](attr *T) unix.Errno {
	const query = 16
	_, _, errno := unix.Syscall(unix.SYS_BPF, query, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	return errno
}
