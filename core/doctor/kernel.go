package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/intercede/intercede/internal/linux"
	"github.com/intercede/intercede/sdk/target"
	"github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

const (
	contained = "this process is in a container whose seccomp profile forbids it, or the kernel lacks it: run intercede on the host"
	upgrade   = "a kernel from %s on has it"

	interrupts = "signals interrupt calls, which fail with EINTR where a handler does not restart them; "
)

var kernelProbes = []probe{{
	name: "kernel", required: true, try: tryRelease,
	purpose: oldest + " and later are supported",
	without: "update the kernel to " + oldest + " or later",
}, {
	name: "libseccomp", required: true, try: tryLibseccomp,
	purpose: "makes runtimes' profiles",
	without: "install libseccomp 2.5 or later",
}, {
	name: "seccomp notification", required: true, try: child("a call was notified and answered", "notify"),
	purpose: "how the kernel hands a call over",
	without: contained,
}, {
	name: "ADDFD with SEND", required: true, try: child("a descriptor was the answer", "addfd"),
	purpose: "a descriptor as the answer to a call, in one step (5.14)",
	without: contained,
}, {
	name: "WAIT_KILLABLE_RECV", try: tryWaitKillable,
	purpose: "signals do not interrupt calls that were received (5.19)",
	without: interrupts + fmt.Sprintf(upgrade, "5.19"),
}, {
	name: "SYNC_WAKE_UP", try: child("taken", "sync-wake-up"),
	purpose: "faster switches between caller and broker (6.6)",
	without: "a notification takes longer; " + fmt.Sprintf(upgrade, "6.6"),
}, {
	name: "PIDFD_THREAD", try: tryThreadPidfd,
	purpose: "a pidfd for a thread (6.9)",
	without: "the pidfd of the thread's process is used, with a check at each use; " + fmt.Sprintf(upgrade, "6.9"),
}, {
	name: "NS_GET_PID_FROM_PIDNS", try: tryTranslate,
	purpose: "ids of a container's threads (6.11)",
	without: "a thread that a call names is looked for in /proc, which takes longer; " + fmt.Sprintf(upgrade, "6.11"),
}, {
	name: "setxattrat", try: trySetxattrat,
	purpose: "callers may use setxattrat(2) (6.13)",
	without: "nothing is lost: callers cannot use setxattrat(2) either",
}, {
	name: "pidfd_getfd", required: true, try: tryGetfd,
	purpose: "a caller's descriptors",
	without: contained,
}, {
	name: "process_vm_readv", required: true, try: tryReadMemory,
	purpose: "a caller's memory",
	without: "CONFIG_CROSS_MEMORY_ATTACH is not set, or " + contained,
}, {
	name: "user namespaces", required: true, try: tryUserNamespaces,
	purpose: "containers whose root is not the host's",
	without: "set user.max_user_namespaces above 0; where they are there, kernel.unprivileged_userns_clone to 1 and kernel.apparmor_restrict_unprivileged_userns to 0",
}}

// oldest is the oldest kernel that is supported.
const oldest = "5.15"

func tryRelease(context.Context) (string, error) {
	release, err := kernelRelease()
	if err != nil {
		return "", err
	}
	return release, atLeast(release, 5, 15)
}

func kernelRelease() (string, error) {
	var name unix.Utsname
	err := unix.Uname(&name)
	return unix.ByteSliceToString(name.Release[:]), err
}

// Supported fails if the kernel lacks what all that executes plugins or containers needs, of the newest that is so
// needed: CLOSE_RANGE_CLOEXEC (5.11) and mount_setattr(2) (5.12). A release does not tell what was backported. The
// error says which kernel is needed: "needs kernel 5.15 or later, and this is ...".
func Supported() error {
	beyond := ^uint(0) >> 1 // no descriptor
	err := unix.CloseRange(beyond, beyond, unix.CLOSE_RANGE_CLOEXEC)
	lacks := "CLOSE_RANGE_CLOEXEC"
	if err == nil {
		err = unix.MountSetattr(-1, ".", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		lacks = "mount_setattr(2)"
	}
	if err != unix.EINVAL && err != unix.ENOSYS {
		return nil
	}
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	return fmt.Errorf("needs kernel %s or later, and this is %s, without %s: see `intercede doctor`", oldest, release, lacks)
}

func tryLibseccomp(context.Context) (string, error) {
	major, minor, micro := seccomp.GetLibraryVersion()
	version := fmt.Sprintf("%d.%d.%d", major, minor, micro)
	return version, atLeast(version, 2, 5)
}

func tryThreadPidfd(context.Context) (string, error) {
	fd, err := unix.PidfdOpen(os.Getpid(), unix.PIDFD_THREAD)
	if err != nil {
		return "", fmt.Errorf("pidfd_open: %w", err)
	}
	return "opened", unix.Close(fd)
}

func tryTranslate(context.Context) (string, error) {
	namespace, err := os.Open("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	defer namespace.Close()
	tid, err := linux.TranslatePID(int(namespace.Fd()), os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("translated %d to %d", os.Getpid(), tid), nil
}

// trySetxattrat gives a descriptor that is none, and a struct that is too small.
func trySetxattrat(context.Context) (string, error) {
	var nothing byte
	_, _, errno := unix.Syscall6(unix.SYS_SETXATTRAT, ^uintptr(0), uintptr(unsafe.Pointer(&nothing)), 0, 0, 0, 0)
	if errno == unix.ENOSYS || errno == unix.EPERM {
		return "", errno
	}
	return "there", nil
}

func tryGetfd(context.Context) (string, error) {
	self, err := target.Open(os.Getpid())
	if err != nil {
		return "", err
	}
	defer self.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return "", fmt.Errorf("pipe: %w", err)
	}
	defer linux.CloseAll(pipe[:]...)
	copied, err := self.Duplicate(int(pipe[0]))
	if err != nil {
		return "", err
	}
	return "a descriptor was copied", unix.Close(copied)
}

func tryReadMemory(context.Context) (string, error) {
	from, to := []byte("memory"), make([]byte, 6)
	if errno := linux.ReadMemory(os.Getpid(), uint64(uintptr(unsafe.Pointer(&from[0]))), to); errno != 0 {
		return "", errno
	}
	if string(to) != string(from) {
		return "", errors.New("something else was read than is there")
	}
	return "memory was read", nil
}

// containerNamespaces are those of a container, made with the power that its user namespace gives. Where AppArmor
// restricts user namespaces, one can be made but gives none.
const containerNamespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWCGROUP

func tryUserNamespaces(ctx context.Context) (string, error) {
	return readSysctls("/proc/sys"), inChild(ctx, "start", containerNamespaces)
}
