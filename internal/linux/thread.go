package linux

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// GoOnThread runs fn on a goroutine of its own, locked to an OS thread that ends with it. So fn may change what is the
// thread's: its namespaces, directories, credentials, filters.
//
// It is never the first thread of the process: that one does not end, and it is the one that /proc/self shows.
func GoOnThread(fn func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			fn()
			return
		}
		// While the first thread is held here, another is found.
		defer runtime.UnlockOSThread()
		OnThread(fn)
	}()
}

// OnThread is GoOnThread that returns when fn has returned or ended its goroutine.
func OnThread(fn func()) {
	done := make(chan struct{})
	GoOnThread(func() {
		defer close(done)
		fn()
	})
	<-done
}

// SetThreadGroups sets the supplementary groups of the calling thread alone (setgroups(2)). The error wraps the errno:
// EPERM without CAP_SETGID, EINVAL for a group that is not mapped or more than 65,536 of them.
func SetThreadGroups(groups []uint32) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0)
	if errno != 0 {
		return fmt.Errorf("set %d supplementary groups: %w", len(groups), errno)
	}
	return nil
}

// SetThreadGID sets the real, effective, saved and filesystem group ids of the calling thread alone, where those of
// packages syscall and unix set all threads' (setresgid(2)). The error wraps the errno: EPERM without CAP_SETGID,
// EINVAL for an id that is not mapped.
func SetThreadGID(gid uint32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); errno != 0 {
		return fmt.Errorf("set the group id %d: %w", gid, errno)
	}
	return nil
}

// SetThreadUID is SetThreadGID for the user ids (setresuid(2)). A change from 0 takes capabilities away
// (capabilities(7)).
func SetThreadUID(uid uint32) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		return fmt.Errorf("set the user id %d: %w", uid, errno)
	}
	return nil
}

// SetThreadFilesystemIDs sets the filesystem user and group id of the calling thread alone (setfsuid(2), setfsgid(2)).
// The error says which are in force instead.
func SetThreadFilesystemIDs(uid, gid uint32) error {
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	// They report no errors: a second call with an invalid id tells what is in force.
	nowGID, _, _ := unix.RawSyscall(unix.SYS_SETFSGID, ^uintptr(0), 0, 0)
	nowUID, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0)
	if uint32(nowUID) != uid || uint32(nowGID) != gid {
		return fmt.Errorf("filesystem ids are %d:%d, wanted %d:%d: CAP_SETUID or CAP_SETGID is missing",
			uint32(nowUID), uint32(nowGID), uid, gid)
	}
	return nil
}

// BlockSignals has the calling thread, which is locked, take no signals and returns those that it did not take before,
// for RestoreSignals (pthread_sigmask(3)). The Go runtime sends signals to its threads at any time.
func BlockSignals() (before unix.Sigset_t, err error) {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i]--
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return before, fmt.Errorf("block signals: %w", err)
	}
	return before, nil
}

// RestoreSignals has the calling thread take signals again.
func RestoreSignals(before unix.Sigset_t) error {
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		return fmt.Errorf("take signals again: %w", err)
	}
	return nil
}

// LoadFilter loads a seccomp filter on the calling thread, for good (seccomp(2)). The error wraps the errno: EACCES
// without CAP_SYS_ADMIN and no_new_privs, EINVAL for a program that the kernel does not take.
func LoadFilter(program []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return fmt.Errorf("load a seccomp filter: %w", err)
	}
	return nil
}
