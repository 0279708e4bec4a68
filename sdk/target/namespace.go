package target

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NamespaceID identifies a namespace while something holds it open: stat(2) of its file in nsfs (namespaces(7)).
type NamespaceID struct {
	Dev, Ino uint64
}

// StatNamespace identifies the namespace whose file path is, "/proc/1/ns/user" for example.
func StatNamespace(path string) (NamespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return NamespaceID{}, processError(&os.PathError{Op: "stat", Path: path, Err: err})
	}
	return NamespaceID{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

// UserNamespace identifies the thread's user namespace.
func (t *Target) UserNamespace() (NamespaceID, error) {
	id, err := StatNamespace(t.proc("ns/user"))
	if err != nil {
		return NamespaceID{}, err
	}
	return id, t.alive()
}

// Translations of pid namespace ioctls, kernel 6.11 (include/uapi/linux/nsfs.h).
const nsGetPIDFromPIDNS = 0x8004b706 // _IOR(0xb7, 0x6, int)

// TranslateTID gives the id, in this process's pid namespace, of the thread that the target names tid: sched_setattr(2)
// and its like take ids of the caller's pid namespace. The error wraps unix.ESRCH if the target sees no such thread.
//
// Kernels before 6.11 cannot be asked. There it looks through the threads in /proc, which takes the longer the more there
// are in the target's pid namespace.
func (t *Target) TranslateTID(tid int) (int, error) {
	ns, err := t.open("ns/pid", unix.O_RDONLY)
	if err != nil {
		return 0, err
	}
	defer unix.Close(ns)
	translated, err := getPIDFromPIDNS(ns, tid)
	if err == unix.ENOTTY {
		translated, err = t.scanForTID(tid)
	}
	if err != nil {
		return 0, fmt.Errorf("pid %d of the pid namespace of thread %d: %w", tid, t.tid, err)
	}
	return translated, nil
}

func getPIDFromPIDNS(ns, tid int) (int, error) {
	translated, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ns), nsGetPIDFromPIDNS, uintptr(tid))
	if errno != 0 {
		return 0, errno
	}
	return int(translated), nil
}
