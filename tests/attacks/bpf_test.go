package attacks

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// countPrograms counts the device programs that are attached to a cgroup (bpf(2), BPF_PROG_QUERY).
func (a *attack) countPrograms(cgroup *os.File) uint32 {
	a.Helper()
	const command = 16
	query := struct { // of union bpf_attr
		target, kind, flags, attachFlags uint32
		ids                              uint64
		count, pad                       uint32
	}{target: uint32(cgroup.Fd()), kind: unix.BPF_CGROUP_DEVICE}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&query)), unsafe.Sizeof(query)); errno != 0 {
		a.Fatalf("BPF_PROG_QUERY: %v", errno)
	}
	return query.count
}
